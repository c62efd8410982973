"""The dashboard: pages for people on `[http] listen`, made from the ledger and from the last evaluation of health."""
