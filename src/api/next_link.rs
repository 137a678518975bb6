//! The link to the next page, in the beginning of an answer that is too long to be read as a whole.

use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Deserializer;

use crate::json_pointer::Text;

/// The member in which OData links to the next page (OData JSON Format 4.01 §4.5.5).
pub(crate) const NEXT_LINK: &str = "@odata.nextLink";

/// The link to the next page, if the `beginning` of a JSON object has it. The beginning may end
/// anywhere.
pub(crate) fn in_beginning(beginning: &[u8]) -> Option<String> {
    let mut found = None;
    let mut json = Deserializer::from_slice(beginning);
    // It fails where the object is cut, and after the link was found.
    let _ = json.deserialize_map(Search(&mut found));
    found
}

struct Search<'f>(&'f mut Option<String>);

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            if name == NEXT_LINK {
                *self.0 = map.next_value()?;
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}
