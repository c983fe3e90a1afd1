"""What a reboot is due for

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('states', schema=None) as batch_op:
        batch_op.add_column(sa.Column('reboot_why', sa.Text(), server_default='', nullable=False))
    with op.batch_alter_table('reports', schema=None) as batch_op:
        batch_op.add_column(sa.Column('reboot_why', sa.JSON(), server_default='[]', nullable=False))


def downgrade() -> None:
    with op.batch_alter_table('reports', schema=None) as batch_op:
        batch_op.drop_column('reboot_why')
    with op.batch_alter_table('states', schema=None) as batch_op:
        batch_op.drop_column('reboot_why')
