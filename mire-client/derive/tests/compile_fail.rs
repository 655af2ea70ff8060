//! What the derive macro refuses, and what it says.

#[test]
fn mistakes_are_refused_at_compile_time_with_a_message_that_helps() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/*.rs");
}
