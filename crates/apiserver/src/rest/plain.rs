//! The strategy of a kind that has none of its own: nothing is defaulted and only metadata is validated.

use api::ErrorList;
use registry::{Context, Erased};
use serde_json::{Error, Value};

pub struct Plain;

impl Erased for Plain {
    fn default(&self, _object: &mut Value) -> Result<(), Error> {
        Ok(())
    }

    fn prepare_create(&self, _object: &mut Value, _ctx: &Context) -> Result<(), Error> {
        Ok(())
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, ctx: &Context) -> Result<(), Error> {
        let (keep, from) =
            if ctx.status { (new["status"].clone(), old.clone()) } else { (old["status"].clone(), new.clone()) };
        *new = from;
        if let Some(map) = new.as_object_mut().filter(|_| !keep.is_null()) {
            map.insert("status".to_owned(), keep);
        }
        Ok(())
    }

    fn validate_create(&self, _object: &Value, _ctx: &Context) -> Result<ErrorList, Error> {
        Ok(ErrorList::new())
    }

    fn validate_update(&self, _new: &Value, _old: &Value, _ctx: &Context) -> Result<ErrorList, Error> {
        Ok(ErrorList::new())
    }

    fn warnings(&self, _object: &Value) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn allow_create_on_update(&self) -> bool {
        false
    }

    fn allow_unconditional_update(&self) -> bool {
        true
    }

    fn orphans_by_default(&self) -> bool {
        false
    }

    fn grace_period_seconds(&self, _object: &Value) -> Result<Option<i64>, Error> {
        Ok(None)
    }
}
