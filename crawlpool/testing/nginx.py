"""An nginx of one's own for a test or a benchmark: on loopback, out of a temporary folder, ended with its block."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

from crawlpool.errors import CrawlPoolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crawlpool.testing.certificates import Certificates

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0

_CONFIG = """\
{modules}
daemon off;
worker_processes {workers};
{user}
pid "{folder}/nginx.pid";
lock_file "{folder}/nginx.lock";
error_log "{folder}/error.log" warn;
events {{ worker_connections {connections}; }}
http {{
    client_body_temp_path "{folder}/t1";
    proxy_temp_path "{folder}/t2";
    fastcgi_temp_path "{folder}/t3";
    uwsgi_temp_path "{folder}/t4";
    scgi_temp_path "{folder}/t5";
    types {{
        text/html html htm;
        text/css css;
        text/plain txt;
        text/xml xml;
        application/javascript js;
        application/json json;
        application/pdf pdf;
        image/png png;
        image/jpeg jpg jpeg;
        image/gif gif;
        image/svg+xml svg;
    }}
    default_type application/octet-stream;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    open_file_cache max=10000;
    server_tokens off;
    keepalive_timeout {keepalive_s}s;
    keepalive_requests 1000000;
    log_format crawlpool '$server_addr $connection $connection_requests $status $body_bytes_sent '
                         '$request_method $request_uri';
    access_log {access_log};
    server {{
{listen}
        server_name _;
        root "{root}";
{tls}
{extra}
    }}
}}
"""


class NginxError(CrawlPoolError, RuntimeError):
    """nginx could not be started; the message holds what it said."""


class Access(NamedTuple):
    """One line of the access log: the address asked, which connection and which request on it, and the answer."""

    host: str
    connection: int
    request_on_connection: int
    status: int
    body_bytes: int
    method: str
    path: str


class NginxServer:
    """An nginx that serves; made by ``nginx()``. Thread-safe: it is immutable, and the log is read at each call."""

    def __init__(self, hosts: tuple[str, ...], port: int, scheme: str, access_log: pathlib.Path | None) -> None:
        self.hosts = hosts
        self.port = port
        self.scheme = scheme
        self.access_log = access_log

    def url(self, path: str = "/", host: str | None = None) -> str:
        """Return the URL of ``path`` on ``host`` (default: the first address)."""
        return f"{self.scheme}://{self.hosts[0] if host is None else host}:{self.port}{path}"

    def accesses(self) -> list[Access]:
        """Return the requests answered so far; nginx writes a line just after it sent the answer.

        Raises:
            NginxError: when the server was started without an access log.
        """
        if self.access_log is None:
            raise NginxError("this nginx writes no access log")
        found = []
        for line in self.access_log.read_text("utf-8", "backslashreplace").splitlines():
            host, connection, nth, status, size, method, path = line.split(" ", 6)
            found.append(Access(host, int(connection), int(nth), int(status), int(size), method, path))
        return found

    def connections(self) -> int:
        """Return over how many connections the requests so far came (from the access log)."""
        return len({access.connection for access in self.accesses()})


def find_nginx() -> str | None:
    """Return the path of an nginx program, or ``None``. Debian puts it where a user's PATH doesn't look."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("nginx", path=os.pathsep.join((path, "/usr/sbin", "/usr/local/sbin")))


def find_module(name: str) -> pathlib.Path | None:
    """Return the file of one of nginx's modules, such as ``ngx_http_echo_module``; ``None`` when it isn't installed."""
    program = find_nginx()
    if program is None:
        return None
    said = subprocess.run([program, "-V"], stderr=subprocess.PIPE, text=True, check=False).stderr
    for argument in said.split():
        option, _, folder = argument.partition("=")
        path = pathlib.Path(folder, f"{name}.so")
        if option == "--modules-path" and path.exists():
            return path
    return None


@contextlib.contextmanager
def nginx(
    root: str | os.PathLike[str],
    *,
    hosts: Sequence[str] = ("127.0.0.1",),
    port: int | None = None,
    tls: Certificates | None = None,
    keepalive_s: int = 75,
    workers: int = 1,
    connections: int = 4096,
    access_log: bool = False,
    modules: Sequence[str | os.PathLike[str]] = (),
    extra: str = "",
) -> Iterator[NginxServer]:
    """Serve a folder with nginx for the time of the block.

    Args:
        root: the folder.
        hosts: loopback addresses to listen on, all on the same port.
        port: the port; ``None`` for any free one.
        tls: certificates to speak TLS with; they must be good for ``hosts``.
        keepalive_s: how long an idle connection stays open.
        workers: worker processes.
        connections: connections that may be open at once, over all workers; each address that is listened on is one.
            The limit on open files of this process holds for nginx, too.
        access_log: whether to log each request, for ``accesses()``; a log costs throughput.
        modules: files of modules to load; see ``find_module``.
        extra: more directives for the server block, such as ``location = /x { return 301 /y; }``.

    Raises:
        NginxError: when there is no nginx, or it doesn't accept connections within 10 s.
    """
    program = find_nginx()
    if program is None:
        raise NginxError("nginx isn't installed (Debian: apt-get install nginx)")
    with tempfile.TemporaryDirectory(prefix="crawlpool-nginx-") as name:
        folder = pathlib.Path(name)
        for attempt in range(5, 0, -1):
            # Another process can take the port between our look and nginx's bind: then look again.
            chosen = _free_port(hosts) if port is None else port
            log = folder / "access.log" if access_log else None
            suffix = " ssl" if tls else ""
            listen = "\n".join(f"        listen {h}:{chosen}{suffix} backlog=1024;" for h in hosts)
            config = _CONFIG.format(
                workers=workers,
                user=_user_line(),
                folder=folder,
                connections=max(1024, connections // workers),
                modules="\n".join(f'load_module "{os.fspath(path)}";' for path in modules),
                keepalive_s=keepalive_s,
                access_log=f'"{log}" crawlpool' if log else "off",
                listen=listen,
                root=pathlib.Path(root).resolve(),
                tls=f'        ssl_certificate "{tls.chain}";\n        ssl_certificate_key "{tls.key}";' if tls else "",
                extra=extra,
            )
            (folder / "nginx.conf").write_text(config, "utf-8")
            (folder / "nginx.pid").unlink(missing_ok=True)
            process = subprocess.Popen(
                [program, "-e", f"{folder}/error.log", "-p", name, "-c", f"{folder}/nginx.conf"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                if _wait_until_serving(process, folder / "nginx.pid", hosts, chosen):
                    yield NginxServer(tuple(hosts), chosen, "https" if tls else "http", log)
                    return
            finally:
                _end(process)
            said = (folder / "error.log").read_text().strip()
            if port is not None or attempt == 1 or "Address already in use" not in said:
                raise NginxError(f"nginx doesn't start: {said[-500:] or 'it said nothing'}")


def _user_line() -> str:
    """Return the directive that keeps root's workers root: as nobody they couldn't read a private temporary folder."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return ""
    import grp  # not on Windows
    import pwd

    return f"user {pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name};"


def _free_port(hosts: Sequence[str]) -> int:
    with socket.create_server((hosts[0], 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_until_serving(
    process: subprocess.Popen[bytes], pid_file: pathlib.Path, hosts: Sequence[str], port: int
) -> bool:
    """Return whether nginx accepts on the first and the last address, in time and before it ends.

    It writes its pid file when it has bound every address: without that, another program could be the one that accepts.
    """
    until = time.monotonic() + START_TIMEOUT_S
    waiting = [hosts[0], hosts[-1]]
    while waiting:
        try:
            process.wait(0.005)  # a short sleep that a failing start ends
            return False
        except subprocess.TimeoutExpired:
            if time.monotonic() > until:
                return False
        if pid_file.exists():
            with contextlib.suppress(OSError), socket.create_connection((waiting[-1], port), timeout=1):
                waiting.pop()
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End nginx: kindly, then at once, then by force."""
    for number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S if number is not signal.SIGQUIT else 1.0)
