"""Who changed what of the intent: a version of every node, changes as rows, discoveries turned away

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('changes',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('time', sa.String(length=32), nullable=False),
    sa.Column('who', sa.String(length=64), nullable=False),
    sa.Column('via', sa.String(length=16), nullable=False),
    sa.Column('action', sa.String(length=16), nullable=False),
    sa.Column('nodes', sa.Text(), nullable=False),
    sa.Column('lines', sa.JSON(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_changes')),
    sqlite_autoincrement=True
    )
    with op.batch_alter_table('nodes', schema=None) as batch_op:
        batch_op.add_column(sa.Column('version', sa.Integer(), nullable=False, server_default='0'))
    with op.batch_alter_table('discoveries', schema=None) as batch_op:
        batch_op.add_column(sa.Column('rejected', sa.String(length=32), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('discoveries', schema=None) as batch_op:
        batch_op.drop_column('rejected')
    with op.batch_alter_table('nodes', schema=None) as batch_op:
        batch_op.drop_column('version')
    op.drop_table('changes')
