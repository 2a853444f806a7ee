"""The query language: words → tree → a condition in SQL, or an answer in memory. docs/query.md is
its grammar."""
