//! The client of Cekura's API and the payloads of its run modes.
