"""What Alembic runs: migrate on the connection that the caller opened, in one transaction."""

from alembic import context

from cache.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
