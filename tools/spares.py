"""Fork servers that begin warm: forks of a process that has imported torch, instead of new interpreters."""

import os
import pickle
import signal
import socket
import sys
from multiprocessing import forkserver, util

COMMAND = "from multiprocessing.forkserver import main; "  # how multiprocessing starts one, in `python -c`


def keep_spares(number=3):
    """Forks of this process wait from here on; each fork server that is started becomes one of them."""
    spares, new_interpreter = [_spare() for _ in range(number)], util.spawnv_passfds

    def start(path, args, passed):
        if not spares or not args[-1].startswith(COMMAND):
            return new_interpreter(path, args, passed)
        pid, line = spares.pop()
        call = args[-1].removeprefix(COMMAND)
        socket.send_fds(line, [pickle.dumps((call, dict(os.environ), os.getcwd()))], passed)
        line.close()
        return pid

    util.spawnv_passfds = start


def _spare():
    """Process number of a fork that waits, and the line on which it is told what to do."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ours.close()
        try:
            _serve(theirs)
        finally:
            os._exit(0)
    theirs.close()
    return pid, ours


def _serve(line):
    """What a new interpreter would do, once it is asked for; nothing if nobody ever asks."""
    message, passed, *_ = socket.recv_fds(line, 1 << 20, 8)
    line.close()
    if not message:
        return
    call, environment, folder = pickle.loads(message)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = ["", *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def main(listener, alive, modules, **settings):
        forkserver.main(*passed, modules, **settings)

    eval(call, {"main": main})
