"""A store in a PostgreSQL database, which several services may share.

Nothing here is imported unless a store is named by a URL: psycopg is an extra.
"""
