"""What a store holds, asked through SQLAlchemy: seldom needed, so ease goes before speed."""

import json
from typing import Any

from sqlalchemy import Connection, Select, func, select

from cache.entries import TeacherIdentity
from cache.models import alternates, completions, refusals, requests, teachers
from cache.schema import SCHEMA_VERSION


def count_rows(connection: Connection) -> dict[str, Any]:
    """How many rows each table has, and the schema's version."""
    counts = [
        select(func.count()).select_from(table).scalar_subquery().label(table.name)
        for table in (completions, refusals, alternates, requests, teachers)
    ]
    rows = connection.execute(select(*counts)).one()
    return {**rows._mapping, "schema_version": SCHEMA_VERSION}


def read_teachers(
    connection: Connection, ids: Select[tuple[int]] | None = None
) -> list[TeacherIdentity]:
    """The teachers with these row numbers (None: all), the one registered last at the end."""
    query = select(teachers).order_by(teachers.c.registered_at, teachers.c.digest)
    if ids is not None:
        query = query.where(teachers.c.id.in_(ids))
    return [
        TeacherIdentity(
            row.digest, row.name, row.backend, json.loads(row.definition), row.registered_at
        )
        for row in connection.execute(query)
    ]
