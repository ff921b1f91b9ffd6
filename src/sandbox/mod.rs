//! The local stand-in for Cekura's API.
