"""What a node knows of itself: the boot answer's words, and the file it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from sis.errors import SisError
from sis.image.store.sign import Signer
from sis.node.config import CONFIG_PATH, BootConfig, NodeConfig, boot_config, read_config, write_config
from sis.node.connection import HeadConnection

KEY = "ab" * 32


def test_the_boot_answers_words() -> None:
    line = f"initrd=initrd ro sis.head=http://10.77.0.1:8700 sis.node=n1 sis.token=t-_1 sis.key={KEY} sis.debug"
    assert boot_config(line) == BootConfig(head="http://10.77.0.1:8700", node="n1", token="t-_1", key=KEY, debug=True)


@pytest.mark.parametrize("word", ["head", "node", "token", "key"])
def test_a_word_that_is_missing_is_named(word: str) -> None:
    """Without the head's key a node could not tell the head from others, so it does not begin."""
    words = {"head": "http://h:1", "node": "n1", "token": "t", "key": KEY}
    line = " ".join(f"sis.{name}={value}" for name, value in words.items() if name != word)
    with pytest.raises(SisError, match=rf"the kernel command line lacks sis\.{word}="):
        boot_config(line)


def test_the_nodes_own_file_is_roots_alone_and_read_back(tmp_path: Path) -> None:
    config = NodeConfig(head="http://h:1", node="n1", secret=Signer.make().private, key=KEY)
    write_config(tmp_path, config)
    assert (tmp_path / CONFIG_PATH).stat().st_mode & 0o7777 == 0o600
    assert read_config(tmp_path) == config
    assert HeadConnection.of(config).key.private == config.secret


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "node.json"),
        ('{"head": "http://h:1", "node": "n1", "secret": "x"}', "missing required field `key`"),
    ],
)
def test_a_damaged_file_is_told_with_the_remedy(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / CONFIG_PATH).parent.mkdir(parents=True)
    (tmp_path / CONFIG_PATH).write_text(text)
    with pytest.raises(SisError, match=told) as caught:
        read_config(tmp_path)
    assert caught.value.hint == "reinstall the node, or restore the file from a backup"


def test_a_secret_that_is_no_key_is_told() -> None:
    with pytest.raises(SisError, match="not a private key"):
        HeadConnection.of(NodeConfig(head="http://h:1", node="n1", secret="once a bearer", key=KEY))
