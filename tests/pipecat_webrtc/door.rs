//! Clients through our own door: aiortc, Chromium on the door's page, and our own dial.
