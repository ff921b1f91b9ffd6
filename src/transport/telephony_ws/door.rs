//! The door: a provider calls us, and we are the bot.

use super::dialect::Role;
use super::leg::{Beginning, START_TIME, TelephonyLeg};
use super::provider::Provider;
use crate::transport::web_socket::{Admitted, Taken, TokenDoor, TokenEntrance};

/// How such a door is set up.
#[derive(Debug, Clone)]
pub struct TelephonyDoor {
    /// Whose calls it takes.
    pub provider: Provider,
    /// Where and for whom.
    pub door: TokenDoor,
}

impl TokenEntrance for TelephonyDoor {
    fn wire(&self) -> &'static str {
        self.provider.name()
    }

    fn door(&self) -> &TokenDoor {
        &self.door
    }

    /// Waits for the stream's start, which says what the call is.
    async fn admit(&self, Taken { socket, via, permit }: Taken) -> Result<Admitted, String> {
        let dialect = self.provider.dialect(Role::Bot, self.provider.formats()[0]);
        let mut leg = TelephonyLeg::new(socket, dialect, Role::Bot, via, self.door.idle, Some(permit));
        let begun = tokio::time::timeout(START_TIME, std::future::poll_fn(|cx| leg.poll_beginning(cx))).await;
        let begun = match begun {
            Ok(begun) => begun,
            Err(_) => {
                leg.give_up();
                std::future::poll_fn(|cx| leg.poll_beginning(cx)).await
            }
        };
        let start = match begun {
            Beginning::Begun => leg.start().cloned().unwrap_or_default(),
            Beginning::Gone(_, detail) if detail.is_empty() => return Err("it hung up before its stream began".to_owned()),
            Beginning::Gone(_, detail) => return Err(detail),
        };
        Ok(Admitted { leg: Box::new(leg), ids: start.ids, metadata: Some(start.told.to_string()) })
    }
}
