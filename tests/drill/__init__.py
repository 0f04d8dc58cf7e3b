"""The drill: kill -9 under load, again and again, and recount the log against every view."""
