"""What became different of nodes' hardware, and when

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('facts_changes',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('node_id', sa.Integer(), nullable=False),
    sa.Column('received', sa.String(length=32), nullable=False),
    sa.Column('lines', sa.JSON(), nullable=False),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.id'], name=op.f('fk_facts_changes_node_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_facts_changes')),
    sqlite_autoincrement=True
    )
    with op.batch_alter_table('facts_changes', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_facts_changes_node_id_id'), ['node_id', 'id'], unique=False)


def downgrade() -> None:
    with op.batch_alter_table('facts_changes', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_facts_changes_node_id_id'))
    op.drop_table('facts_changes')
