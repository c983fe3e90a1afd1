"""sis, the System Installation Suite: image specs to golden images to nodes that stay equal to them."""

__version__ = "0.1.0"
