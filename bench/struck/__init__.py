"""The faults, by what is struck. Each module adds its own to FAULTS."""

from bench.struck import clients, clock, database, delivery, failpoints, process, store
from bench.struck.fault import FAULTS, Fault

__all__ = ["FAULTS", "Fault", "clients", "clock", "database", "delivery", "failpoints", "process", "store"]
