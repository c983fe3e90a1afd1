"""What drifted files hold on nodes, of each node's last check

Revision: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('drift_diffs',
    sa.Column('node_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('received', sa.String(length=32), nullable=False),
    sa.Column('data', sa.JSON(), nullable=False),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.id'], name=op.f('fk_drift_diffs_node_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('node_id', name=op.f('pk_drift_diffs'))
    )


def downgrade() -> None:
    op.drop_table('drift_diffs')
