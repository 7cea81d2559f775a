//! Replays of dead letters, asked for over the control socket.
//!
//! Owns the question and the answer, which comes when the replay is over; whoever goes away before ends it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use serde::Deserialize;

use super::{
    Service,
    kept::{Refused, hosted, refused},
};
use crate::{
    letter::{self, Insistence, Kind, Lateness, Order},
    pipeline::replay::{Replayed, Unreplayed, replay},
    unit::Rate,
};

/// An [`Order`] as a query writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Terms {
    stage: Option<String>,
    kind: Option<Kind>,
    plugin: Option<String>,
    since: Option<i64>,
    text: Option<String>,
    from: Option<u64>,
    until: Option<u64>,
    late: bool,
    force: bool,
    rate: Option<String>,
    limit: Option<u64>,
}

/// The pairs of the query that asks for a replay.
pub fn query(order: &Order) -> Vec<(&'static str, String)> {
    let letter::Query { stage, kind, plugin, since, text, from, until } = &order.query;
    let pairs = [
        ("stage", stage.clone()),
        ("kind", kind.map(|kind| kind.name().to_owned())),
        ("plugin", plugin.clone()),
        ("since", since.map(|since| since.to_string())),
        ("text", text.clone()),
        ("from", from.map(|from| from.to_string())),
        ("until", until.map(|until| until.to_string())),
        ("late", (order.lateness == Lateness::Counts).then(|| true.to_string())),
        ("force", (order.insistence == Insistence::Insists).then(|| true.to_string())),
        ("rate", order.rate.map(|rate| rate.to_string())),
        ("limit", order.most.map(|most| most.to_string())),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

impl Terms {
    fn order(self) -> Result<Order, Refused> {
        let Self { stage, kind, plugin, since, text, from, until, late, force, rate, limit } = self;
        let rate: Option<Rate> = rate
            .map(|rate| rate.parse())
            .transpose()
            .map_err(|error| refused(StatusCode::BAD_REQUEST, format!("read the rate: {error}")))?;
        Ok(Order {
            query: letter::Query { stage, kind, plugin, since, text, from, until },
            lateness: if late { Lateness::Counts } else { Lateness::Excused },
            insistence: if force { Insistence::Insists } else { Insistence::Spares },
            rate,
            most: limit,
        })
    }
}

pub(super) async fn order(
    State(service): State<Arc<Service>>,
    Path(pipeline): Path<String>,
    Query(terms): Query<Terms>,
) -> Result<Json<Replayed>, Refused> {
    let order = terms.order()?;
    let meant = hosted(&service, Some(&pipeline))?;
    let Some(one) = meant.first() else {
        return Err(refused(StatusCode::NOT_FOUND, format!("find the pipeline `{pipeline}`")));
    };
    replay(&one.board, order).await.map(Json).map_err(|error| {
        let code = match error {
            Unreplayed::Busy(_) | Unreplayed::None(_) => StatusCode::CONFLICT,
            Unreplayed::Unread(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        refused(code, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_arbitrary_question_is_an_order_or_refused_and_never_panics(
            text in "((stage|kind|since|rate|limit|late|from|until)=[^&]{0,8}&?){0,4}|.{0,40}",
        ) {
            if let Ok(terms) = serde_urlencoded::from_str::<Terms>(&text) {
                let _ = terms.order();
            }
        }
    }

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let query = letter::Query {
            stage: Some("a b".to_owned()),
            kind: Some(Kind::OutOfFuel),
            plugin: Some("p&q".to_owned()),
            since: Some(-3),
            text: Some("x=y".to_owned()),
            from: Some(4),
            until: Some(9),
        };
        let (lateness, insistence) = (Lateness::Counts, Insistence::Insists);
        let whole = Order { query, lateness, insistence, rate: Some("30/m".parse().unwrap()), most: Some(7) };
        for order in [Order::default(), whole] {
            let path = crate::api::client::with_query("", &super::query(&order));
            let terms: Terms = serde_urlencoded::from_str(path.trim_start_matches('?')).unwrap();
            assert_eq!(terms.order().map_err(|_| ()), Ok(order));
        }
    }
}
