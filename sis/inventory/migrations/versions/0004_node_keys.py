"""Nodes prove themselves with keys of their own; the head keeps public halves instead of hashed secrets

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table('secrets')
    op.create_table('node_keys',
    sa.Column('node_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('public_key', sa.String(length=64), nullable=False),
    sa.Column('issued', sa.String(length=32), nullable=False),
    sa.Column('used', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.id'], name=op.f('fk_node_keys_node_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('node_id', name=op.f('pk_node_keys'))
    )
