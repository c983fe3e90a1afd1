"""The head's own description of its API against what it does: made-up calls get no 5xx and no undocumented answer."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from sis.head import app as head_app
from sis.inventory import db
from tests.vm.console_world import furnish

EXAMPLES = 8
SEED = 20260101

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    state = tmp_path_factory.mktemp("openapi")
    furnish(state)
    with db.open(state / "state.db") as inventory:
        yield schemathesis.openapi.from_asgi("/api/v1/openapi.json", head_app.create(state, inventory))


@pytest.mark.parametrize(
    ("role", "mode"),
    [
        ("admin", GenerationMode.POSITIVE),
        ("admin", GenerationMode.NEGATIVE),
        ("view", GenerationMode.POSITIVE),
        ("", GenerationMode.NEGATIVE),
    ],
    ids=["admin", "admin-wrong", "view", "no-one-wrong"],
)
def test_every_call_answers_as_it_says(api: schemathesis.BaseSchema, role: str, mode: GenerationMode) -> None:
    """Calls that fit the description and calls that do not, by who may do all, may look, may nothing."""
    inventory = api.app.state.head.inventory
    token = inventory.admins.add_token(f"fuzz-{role}-{mode.name.lower()}", role) if role else "made-up"
    faults = []
    for found in api.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        try:
            answers_as_it_says(operation, token, mode)
        except FailureGroup as fault:
            faults.append(f"--- {operation.label}\n{fault}")
    assert not faults, "\n".join(faults)


def answers_as_it_says(operation: schemathesis.APIOperation[Any, Any, Any], token: str, mode: GenerationMode) -> None:
    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: schemathesis.Case[Any]) -> None:
        keys = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        case.call_and_validate(headers=keys, excluded_checks=[positive_data_acceptance])

    with warnings.catch_warnings(), contextlib.suppress(Unsatisfiable):  # of some calls nothing can be wrong
        warnings.simplefilter("ignore")
        call()
