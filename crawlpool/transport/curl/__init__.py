"""The libcurl transport: one I/O thread per pool moves the bytes of all its sessions. Needs the extra ``curl``."""
