"""Sign-in: sessions, refresh rotation, access tokens, passwords."""
