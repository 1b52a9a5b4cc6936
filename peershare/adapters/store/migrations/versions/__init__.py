"""The revisions. One that was published is never changed; a change of the tables is one more."""
