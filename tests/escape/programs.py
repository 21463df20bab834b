"""Hostile programs by family, each with the wall that stops it; each ends with an expression that is then True."""

from __future__ import annotations

TRIED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def denied(f):
    try:
        result = f()
    except (OSError, PermissionError, ValueError, RuntimeError, ImportError):
        return True
    return isinstance(result, int) and result < 0
"""

PROGRAMS = {
    # family: {reason: program}
    "/proc and /sys": {
        "not mounted": "denied(lambda: os.listdir('/proc')) and denied(lambda: os.listdir('/sys'))",
        "no way to another process": "all(denied(lambda p=p: open(f'/proc/{p}/mem', 'rb')) for p in (1, 2, os.getppid()))",
        "kernel settings out of reach": "denied(lambda: open('/proc/sys/kernel/core_pattern', 'w').write('|/x'))",
        "control groups out of reach": "denied(lambda: open('/sys/fs/cgroup/cgroup.procs', 'w').write('1'))",
        "cannot be mounted either": "libc.mount(b'proc', b'/box/home', b'proc', 0, None) < 0",
    },
    "ptrace": {
        "attach": "all(libc.ptrace(16, p, 0, 0) < 0 for p in range(1, 20))",
        "seize": "all(libc.ptrace(0x4206, p, 0, 0) < 0 for p in range(1, 20))",
        "trace me": "libc.ptrace(0, 0, 0, 0) < 0",
        "read memory of others": "libc.process_vm_readv(1, None, 0, None, 0, 0) < 0",
        "take descriptors of others": "libc.syscall(438, 3, 0, 0) < 0",
    },
    "mounts": {
        "tmpfs": "libc.mount(b'tmpfs', b'/usr', b'tmpfs', 0, None) < 0",
        "remount writable": "libc.mount(None, b'/', None, 32, None) < 0",
        "unmount": "all(libc.umount2(p, 2) < 0 for p in (b'/', b'/usr', b'/box/home'))",
        "pivot": "libc.syscall(155, b'/', b'/') < 0",
        "chroot": "denied(lambda: os.chroot('/usr'))",
        "new mount calls": "all(libc.syscall(n, 0, 0, 0, 0, 0) < 0 for n in range(428, 434))",
        "namespaces": "all(libc.unshare(f) < 0 for f in (0x10000000, 0x20000, 0x40000000, 0x8000000, 0x4000000))",
    },
    "parent's descriptors and environment": {
        "environment is ours": "not any('FERRULE_TEST_SECRET' in k or 'gold' in v for k, v in os.environ.items())",
        "few descriptors": "sum(not denied(lambda fd=fd: os.fstat(fd).st_mode) for fd in range(256)) <= 5",
        "no directory is open": (
            "import stat\n"
            "def folder(fd):\n"
            "    try: return stat.S_ISDIR(os.fstat(fd).st_mode)\n"
            "    except OSError: return False\n"
            "not any(folder(fd) for fd in range(256))"
        ),
        "no parent to see": "os.getppid() in (0, 1)",
    },
    "time": {
        "the clock stays": "denied(lambda: __import__('time').clock_settime(0, 0.0))",
        "timers are one's own": "__import__('signal').setitimer(0, 100) == (0.0, 0.0)",
        "limits cannot be raised": (
            "import resource\n"
            "all(denied(lambda w=w: resource.setrlimit(w, (resource.RLIM_INFINITY,) * 2))\n"
            "    for w in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE))"
        ),
        "priority": "libc.setpriority(0, 0, -20) < 0",
    },
    "kernel": {
        "bpf": "libc.syscall(321, 0, 0, 0) < 0",
        "perf": "libc.syscall(298, 0, 0, 0, 0, 0) < 0",
        "io_uring": "libc.syscall(425, 1, 0) < 0",
        "userfaultfd": "libc.syscall(323, 0) < 0",
        "modules": "libc.syscall(175, 0, 0, b'') < 0 and libc.syscall(313, 0, b'', 0) < 0",
        "keys": "libc.syscall(250, 0, 0, 0) < 0",
        "reboot": "libc.syscall(169, 0xfee1dead, 672274793, 0x1234567, 0) < 0",
        "32-bit calls": "libc.syscall(0x40000000 + 41, 2, 1, 0) < 0",
    },
    "network": {
        "tcp": "import socket\ndenied(lambda: socket.create_connection(('127.0.0.1', 80), 1))",
        "unix": "import socket\ndenied(lambda: socket.socket(socket.AF_UNIX))",
        "raw": "import socket\ndenied(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))",
        "names": "import socket\ndenied(lambda: socket.gethostbyname('localhost.invalid'))",
        "netlink": "import socket\ndenied(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))",
    },
    "pickled and shown results": {
        "a value is text": "class A:\n    def __repr__(self): return 'x' * 10**7\nlen(repr(A())) == 10**7",
        "nobody unpickles": (
            "import pickle\nclass A:\n    def __reduce__(self): return (os._exit, (3,))\nlen(pickle.dumps(A())) > 0"
        ),
    },
    "symlinks": {
        "out of the folder": (
            "os.path.lexists('e') or os.symlink('/etc/shadow', 'e')\n"
            "denied(lambda: open('e').read()) and denied(lambda: open('e', 'a'))"
        ),
        "as a name of a file": "os.path.lexists('n') or os.symlink('/usr/new', 'n')\ndenied(lambda: open('n', 'w'))",
    },
    "what the kernel counts for the whole host": {
        "asynchronous requests": "ctx = ctypes.c_ulong(0)\nlibc.syscall(206, 1000, ctypes.byref(ctx)) < 0",
        "watches on files": "libc.syscall(253) < 0 and libc.syscall(294, 0) < 0",
        "watches on file systems": "libc.syscall(300, 0, 0) < 0 and libc.syscall(301, 0, 0, 0, 0, 0) < 0",
        "timers, which also wake a stopped process": "libc.syscall(222, 1, None, ctypes.byref(ctypes.c_int())) < 0",
        "message queues": "libc.syscall(240, b'/q', 0o102, 0o600, 0) < 0 and libc.syscall(68, 0, 0o1600) < 0",
        "keys": "all(libc.syscall(n, 0, 0, 0, 0, 0) < 0 for n in (248, 249, 250))",
        "shared memory and semaphores": "libc.syscall(29, 0, 4096, 0o1600) < 0 and libc.syscall(64, 0, 1, 0o1600) < 0",
        "signals under way": (
            "import signal\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [40])\n"
            "info, sent = (ctypes.c_int * 32)(40, 0, -1), 0\n"
            "while sent < 1000 and libc.syscall(129, os.getpid(), 40, info) == 0: sent += 1\n"
            "sent <= 128"
        ),
        "descriptors under way": (
            "import socket\n"
            "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
            "denied(lambda: socket.send_fds(a, [b'x'], [0])) and denied(lambda: libc.syscall(307, a.fileno(), None, 0, 0))"
        ),
        "descriptors of processes": (
            "taken = 0\nwhile taken < 1000 and libc.syscall(434, os.getpid(), 0) >= 0: taken += 1\ntaken < 256"
        ),
        "large pipes": "import fcntl\nr, w = os.pipe()\ndenied(lambda: fcntl.fcntl(w, 1031, 1 << 20))",
        "terminals": "denied(lambda: os.open('/dev/ptmx', os.O_RDWR)) and denied(lambda: os.openpty())",
        "memory in /dev": "denied(lambda: open('/dev/shm/x', 'w')) and denied(lambda: open('/dev/x', 'w'))",
        "file rules in kernel memory": "libc.syscall(444, (ctypes.c_uint64 * 2)(1, 0), 8, 0) < 0",
        "filters in kernel memory": "libc.syscall(317, 1, 0, None) < 0",
        "files in kernel memory": (
            "made = 0\n"
            "try:\n"
            "    for made in range(20_000): os.close(os.open(f'tmp/{made}', os.O_CREAT | os.O_WRONLY))\n"
            "except OSError: pass\n"
            "made < 8192"
        ),
    },
    "what files shared with the host would tell or hold": {
        "locks": "import fcntl\nf = open(os.__file__)\ndenied(lambda: fcntl.flock(f, fcntl.LOCK_EX))",
        "locks that belong to an open file": (
            "import fcntl, struct\nf = open(os.__file__)\n"
            "all(denied(lambda n=n: fcntl.fcntl(f, n, struct.pack('hhqqi4x', 0, 0, 0, 0, 0))) for n in (37, 38))"
        ),
        "record locks are not taken": (
            "import fcntl, struct\nf = open('/dev/null', 'r+b', 0)\n"
            "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
            "fcntl.lockf(open(os.__file__), fcntl.LOCK_SH | fcntl.LOCK_NB)\n"
            "True"
        ),
        "leases": "import fcntl\nf = open(os.__file__)\nall(denied(lambda k=k: fcntl.fcntl(f, k, 0)) for k in (1024, 1040))",
        "notes of a change": (
            "import fcntl\nf = os.open(os.path.dirname(os.__file__), os.O_RDONLY)\n"
            "denied(lambda: fcntl.fcntl(f, fcntl.F_NOTIFY, fcntl.DN_MODIFY))"
        ),
        "what was read lately": (
            "libc.syscall(451, os.open(os.__file__, 0), (ctypes.c_uint64 * 2)(0, 4096), (ctypes.c_uint64 * 5)(), 0) < 0"
        ),
        "the host's mounts": "libc.syscall(457, None, None, 0, 0) < 0 and libc.syscall(458, None, None, 0, 0) < 0",
    },
    "signals by other ways": {
        "owner of a file": (
            "import fcntl\nr, w = os.pipe()\n"
            "all(denied(lambda c=c: fcntl.fcntl(r, c, 1)) for c in (fcntl.F_SETOWN, fcntl.F_SETSIG, 15))"
        ),
        "owner of a file by ioctl": (
            "r, w = os.pipe()\npid = ctypes.c_int(1)\n"
            "all(libc.ioctl(r, c, ctypes.byref(pid)) < 0 for c in (0x8901, 0x8902))"
        ),
        "setting the stopped going": "import signal\ndenied(lambda: os.kill(1, signal.SIGCONT))",
        "by number of a thread": "all(libc.syscall(200, n, 9) < 0 for n in range(1, 30) if n != os.getpid())",
        "by descriptor": "libc.syscall(424, libc.syscall(434, os.getpid(), 0), 9, None, 0) < 0",
    },
    "what stays possible": {
        "a database in the folder": (
            "import sqlite3\ndb = sqlite3.connect('x.db')\ndb.execute('create table t (a)')\n"
            "db.execute('insert into t values (1)')\ndb.commit()\n"
            "sqlite3.connect('x.db').execute('select a from t').fetchall() == [(1,)]"
        ),
        "a shelf of objects": (
            "import shelve\nwith shelve.open('s') as s: s['a'] = 1\nwith shelve.open('s') as s: a = s['a']\na == 1"
        ),
        "an event loop": "import asyncio\nasyncio.run(asyncio.sleep(0, True))",
        "a lock of one's own": "import fcntl\nf = open('own', 'w')\nfcntl.lockf(f, fcntl.LOCK_EX)\nTrue",
        "saving to disk": "f = open('kept', 'w')\nf.write('x')\nf.flush()\nos.fsync(f.fileno())\nos.sync()\nTrue",
        "an alarm": (
            "import signal, time\nrung = []\nold = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.05)\ntime.sleep(0.5)\nlen(rung) == 1"
        ),
        "sockets in pairs": "import socket\na, b = socket.socketpair()\na.send(b'x')\nb.recv(1) == b'x'",
    },
}

VANDALS = {
    "builtins": "import builtins\nbuiltins.print = builtins.len = builtins.repr = None",
    "json": "import json\njson.dumps = json.loads = lambda *a, **k: 'broken'",
    "modules": "import sys\nfor name in list(sys.modules): sys.modules[name] = None",
    "streams": "import sys\nsys.stdout = sys.stderr = sys.stdin = None",
    "descriptors": "import os\nos.write = os.read = None",
    "tracing": "import sys\nsys.settrace(lambda *a: 1 / 0)",
    "recursion": "import sys\nsys.setrecursionlimit(60)",
    "collector": "import gc\ngc.collect = None; gc.disable()",
    "ast": "import ast\nast.parse = None",
    "main": "import sys\nsys.modules['__main__'].__dict__.clear()",
    "exceptions": "class E(BaseException):\n    def __str__(self): raise self\nraise E()",
    "exit hooks": "import atexit, sys\natexit.register(lambda: 1 / 0)\nsys.exit(7)",
}
