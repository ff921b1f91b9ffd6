//! Request bodies: JSON, forms, and multipart with a file.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt;
use serde_json::{Map, Value};

use super::super::request::object_of_form;
use super::{ApiLimits, Refusal};

/// A body that has not been read.
pub(super) struct Posted<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Body,
    pub(super) limits: ApiLimits,
}

/// A body's fields, and the file beside them.
#[derive(Debug)]
pub(super) struct Fields {
    pub(super) fields: Value,
    pub(super) file: Option<UploadedFile>,
}

/// A file of a multipart body.
#[derive(Debug)]
pub(super) struct UploadedFile {
    /// The part's name.
    pub(super) part: String,
    pub(super) bytes: Bytes,
}

impl Posted<'_> {
    fn kind(&self) -> String {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("application/json");
        kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// A JSON body.
    pub(super) async fn json(self) -> Result<Value, Refusal> {
        Ok(self.form_or_json().await?.fields)
    }

    /// A JSON body; an empty one is an empty object.
    pub(super) async fn json_or_nothing(self) -> Result<Value, Refusal> {
        let bytes = read(self.body, self.limits.largest_body).await?;
        if bytes.is_empty() { Ok(Value::Object(Map::new())) } else { parse(&bytes) }
    }

    /// A JSON body, a form, or a multipart body.
    pub(super) async fn form_or_json(self) -> Result<Fields, Refusal> {
        let plain = |fields| Ok(Fields { fields, file: None });
        match self.kind().as_str() {
            "application/json" => plain(parse(&read(self.body, self.limits.largest_body).await?)?),
            "application/x-www-form-urlencoded" => {
                let bytes = read(self.body, self.limits.largest_body).await?;
                plain(object_of_form(url::form_urlencoded::parse(&bytes).into_owned()))
            }
            "multipart/form-data" => self.multipart().await,
            other => {
                let detail = format!("Unsupported media type \"{other}\" in request.");
                Err(Refusal::detail(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
            }
        }
    }

    async fn multipart(self) -> Result<Fields, Refusal> {
        let bad = |error: &dyn std::fmt::Display| {
            Refusal::detail(StatusCode::BAD_REQUEST, format!("Multipart form parse error - {error}"))
        };
        let mut request = Request::new(Body::from(read(self.body, self.limits.largest_upload).await?));
        if let Some(kind) = self.headers.get(header::CONTENT_TYPE) {
            request.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
        }
        let mut parts = Multipart::from_request(request, &()).await.map_err(|error| bad(&error))?;
        let (mut pairs, mut file) = (Vec::new(), None);
        while let Some(part) = parts.next_field().await.map_err(|error| bad(&error))? {
            let name = part.name().unwrap_or_default().to_owned();
            if part.file_name().is_some() {
                let bytes = part.bytes().await.map_err(|error| bad(&error))?;
                file = Some(UploadedFile { part: name, bytes });
            } else {
                pairs.push((name, part.text().await.map_err(|error| bad(&error))?));
            }
        }
        Ok(Fields { fields: object_of_form(pairs.into_iter()), file })
    }
}

/// Bytes of a refused body that are still taken: a client that is cut off does not see why.
const DRAINED: usize = 16 << 20;

async fn read(body: Body, most: usize) -> Result<Bytes, Refusal> {
    let mut pieces = body.into_data_stream();
    let (mut bytes, mut seen) = (Vec::new(), 0_usize);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Refusal::detail(StatusCode::BAD_REQUEST, format!("The body broke off: {error}")))?;
        seen += piece.len();
        if seen <= most {
            bytes.extend_from_slice(&piece);
        } else if seen > most + DRAINED {
            break;
        }
    }
    if seen > most {
        return Err(Refusal::detail(StatusCode::PAYLOAD_TOO_LARGE, format!("A request has at most {most} bytes.")));
    }
    Ok(Bytes::from(bytes))
}

fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| Refusal::detail(StatusCode::BAD_REQUEST, format!("JSON parse error - {error}")))
}
