use mire_client::{Aggregate, NewEvent};

struct Opened;

fn main() {
    let _ = NewEvent::new(&Opened);
    let _ = <() as Default>::default();
    fn _is<A: Aggregate>() {}
}
