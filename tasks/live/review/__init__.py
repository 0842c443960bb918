"""Our own review page: a user interface over the files hand-off, without a database."""
