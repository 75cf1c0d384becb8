//! Every case of every scene, and the proof that a wrong one is found.

use crate::judge::judge;
use crate::scene::Scene;

/// The suite is that large at least.
const AT_LEAST: usize = 400;

#[test]
fn every_case_of_the_suite_holds() {
    let tally = judge(&Scene::all("scenes"));
    println!(
        "{} cases hold, {} are known not to",
        tally.held,
        tally.gaps.len()
    );
    for gap in &tally.gaps {
        println!("known gap: {gap}");
    }
    let failed = tally.failed.len();
    assert_eq!(
        failed,
        0,
        "{failed} do not hold:\n{}",
        tally.failed.join("")
    );
    assert!(
        tally.held >= AT_LEAST,
        "{} cases, of {AT_LEAST}",
        tally.held
    );
}

#[test]
fn a_case_that_is_wrong_is_found_with_its_line_and_what_differs() {
    let scenes = Scene::all("control");
    let tally = judge(&scenes);
    assert_eq!(tally.held, 0, "all of them are wrong");
    let expected = include_str!("control/expected.txt");
    assert_eq!(tally.failed.join(""), expected);
}
