"""The ledger: wallets, lots, entries, holds. Amounts are integers in minor units."""

from holdfast.kernel.ledger.holds import Hold, capture, hold, hold_of, release, sweep
from holdfast.kernel.ledger.transfers import FORWARD, forward
from holdfast.kernel.ledger.verbs import (
    Adjusted,
    Charged,
    Entry,
    Price,
    Wallet,
    adjust,
    charge,
    grant,
    prices,
    refund,
    transactions,
    wallet_of,
)

__all__ = [
    "FORWARD",
    "Adjusted",
    "Charged",
    "Entry",
    "Hold",
    "Price",
    "Wallet",
    "adjust",
    "capture",
    "charge",
    "forward",
    "grant",
    "hold",
    "hold_of",
    "prices",
    "refund",
    "release",
    "sweep",
    "transactions",
    "wallet_of",
]
