"""A disk that fills up, and one that loses power: both around real SQLite in a real process."""
