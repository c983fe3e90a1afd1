"""What every table belongs to, and how one belongs to a node."""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, MetaData

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def of_node() -> Column[int]:
    return Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE"), nullable=False)


def one_per_node() -> Column[int]:
    return Column("node_id", ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)
