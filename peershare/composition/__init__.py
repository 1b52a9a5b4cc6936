"""The server's parts, put together: adapters, core and edge. Tests put theirs together here as well."""
