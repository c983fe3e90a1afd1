"""Rollouts, the versions nodes are held to and were last good at, health in reports, boots of an arming

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('rollouts',
    sa.Column('id', sa.Integer(), nullable=False),
    sa.Column('created', sa.String(length=32), nullable=False),
    sa.Column('who', sa.String(length=64), nullable=False),
    sa.Column('nodeset', sa.Text(), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('wave', sa.Integer(), nullable=False),
    sa.Column('started', sa.String(length=32), nullable=True),
    sa.Column('ended', sa.String(length=32), nullable=True),
    sa.Column('plan', sa.JSON(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_rollouts')),
    sqlite_autoincrement=True
    )
    with op.batch_alter_table('rollouts', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_rollouts_state'), ['state'], unique=False)

    op.create_table('rollout_nodes',
    sa.Column('rollout_id', sa.Integer(), nullable=False),
    sa.Column('node_id', sa.Integer(), nullable=False),
    sa.Column('wave', sa.Integer(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('state', sa.String(length=16), nullable=False),
    sa.Column('since', sa.String(length=32), nullable=False),
    sa.Column('begun', sa.String(length=32), nullable=True),
    sa.Column('ended', sa.String(length=32), nullable=True),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('target', sa.String(length=200), nullable=False),
    sa.Column('target_version', sa.String(length=64), nullable=False),
    sa.Column('before', sa.String(length=200), nullable=False),
    sa.Column('before_version', sa.String(length=64), nullable=False),
    sa.Column('order_id', sa.Integer(), nullable=True),
    sa.Column('report_id', sa.Integer(), nullable=True),
    sa.Column('boot_id', sa.String(length=36), nullable=False),
    sa.Column('bytes', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.id'], name=op.f('fk_rollout_nodes_node_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['rollout_id'], ['rollouts.id'], name=op.f('fk_rollout_nodes_rollout_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('rollout_id', 'node_id', name=op.f('pk_rollout_nodes'))
    )
    with op.batch_alter_table('rollout_nodes', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_rollout_nodes_node_id'), ['node_id'], unique=False)

    op.create_table('holds',
    sa.Column('node_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('image', sa.String(length=128), nullable=False),
    sa.Column('generation', sa.Integer(), nullable=False),
    sa.Column('version', sa.String(length=64), nullable=False),
    sa.Column('since', sa.String(length=32), nullable=False),
    sa.Column('rollout_id', sa.Integer(), nullable=False),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.id'], name=op.f('fk_holds_node_id'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['rollout_id'], ['rollouts.id'], name=op.f('fk_holds_rollout_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('node_id', name=op.f('pk_holds'))
    )
    with op.batch_alter_table('holds', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_holds_rollout_id'), ['rollout_id'], unique=False)

    op.create_table('last_good',
    sa.Column('node_id', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('image', sa.String(length=128), nullable=False),
    sa.Column('generation', sa.Integer(), nullable=False),
    sa.Column('version', sa.String(length=64), nullable=False),
    sa.Column('since', sa.String(length=32), nullable=False),
    sa.ForeignKeyConstraint(['node_id'], ['nodes.id'], name=op.f('fk_last_good_node_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('node_id', name=op.f('pk_last_good'))
    )
    # What is in-sync today is what a rollout of tomorrow may go back to.
    op.execute(
        "INSERT INTO last_good SELECT node_id, image, generation, version, since FROM states"
        " WHERE state = 'in-sync' AND version <> ''"
    )
    with op.batch_alter_table('reports', schema=None) as batch_op:
        batch_op.add_column(sa.Column('health', sa.JSON(), nullable=False, server_default='[]'))
        batch_op.add_column(sa.Column('boot_id', sa.String(length=36), nullable=False, server_default=''))
    with op.batch_alter_table('armings', schema=None) as batch_op:
        batch_op.add_column(sa.Column('boots', sa.Integer(), nullable=False, server_default='0'))


def downgrade() -> None:
    with op.batch_alter_table('armings', schema=None) as batch_op:
        batch_op.drop_column('boots')
    with op.batch_alter_table('reports', schema=None) as batch_op:
        batch_op.drop_column('boot_id')
        batch_op.drop_column('health')
    op.drop_table('last_good')
    with op.batch_alter_table('holds', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_holds_rollout_id'))
    op.drop_table('holds')
    with op.batch_alter_table('rollout_nodes', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_rollout_nodes_node_id'))
    op.drop_table('rollout_nodes')
    with op.batch_alter_table('rollouts', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_rollouts_state'))
    op.drop_table('rollouts')
