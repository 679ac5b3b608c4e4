//! Leaves a note on the request and puts what it finds on the response, whichever instance serves it.

use tidegate_sdk::prelude::*;

#[derive(Default)]
struct Notes;

#[tidegate_sdk::plugin]
impl Plugin for Notes {
    fn on_request(&mut self, request: &mut Request) -> Result<()> {
        request.set_note("path", request.path())?;
        Ok(())
    }

    fn on_response(&mut self, request: &Request, response: &mut Response) -> Result<()> {
        let note = request.note("path").ok_or("the note is gone")?;
        response.set_header("x-noted-path", note)?;
        Ok(())
    }
}
