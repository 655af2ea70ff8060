//! [`each_arity!`]: functions of 0 to 8 parameters.

/// Calls a macro with the names of no, one, two … eight type parameters.
macro_rules! each_arity {
    ($each:ident) => {
        $each!();
        $each!(A1);
        $each!(A1 A2);
        $each!(A1 A2 A3);
        $each!(A1 A2 A3 A4);
        $each!(A1 A2 A3 A4 A5);
        $each!(A1 A2 A3 A4 A5 A6);
        $each!(A1 A2 A3 A4 A5 A6 A7);
        $each!(A1 A2 A3 A4 A5 A6 A7 A8);
    };
}

pub(crate) use each_arity;
