"""What moves bytes for a session: the urllib3 transport, its connections, TLS contexts, and what may end a leg."""
