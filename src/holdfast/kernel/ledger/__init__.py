"""The ledger: wallets, lots, entries, holds. Amounts are integers in minor units."""

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
    "Adjusted",
    "Charged",
    "Entry",
    "Price",
    "Wallet",
    "adjust",
    "charge",
    "grant",
    "prices",
    "refund",
    "transactions",
    "wallet_of",
]
