//! Names of methods, as they are read and printed.

use super::*;

fn message(text: &str) -> String {
    text.parse::<MethodName>().unwrap_err().to_string()
}

#[test]
fn a_name_is_printed_as_it_was_typed_and_plus_and_order_do_not_matter() {
    for name in ["fine-tune", "lwf-seen", "icarl-softmax", "lucir-e0-dfgr-dtid-unshared"] {
        assert_eq!(name.parse::<MethodName>().unwrap().to_string(), name);
    }
    for (typed, printed, short) in [
        ("lucir", "lucir-e20", "lucir"),
        ("lucir+dtid+dfgr", "lucir-e20-dfgr-dtid", "lucir-dfgr-dtid"),
        ("podnet+e0+dfgr+statistics", "podnet-e0-dfgr-discriminant", "podnet-e0-dfgr-discriminant"),
        ("podnet-e5", "podnet-e5", "podnet-e5"),
        ("lwf+stages+dtidkl+apr", "lwf-apr-dtidkl-stages", "lwf-apr-dtidkl-stages"),
    ] {
        let name: MethodName = typed.parse().unwrap();
        assert_eq!((name.to_string(), name.short()), (printed.to_owned(), short.to_owned()));
    }
    let of = MethodName::with_options("lucir+dfgr+dtid", Some(20), Head::of_option("statistics")).unwrap();
    assert_eq!(of.to_string(), "lucir-e20-dfgr-dtid-discriminant");
}

#[test]
fn what_does_not_go_together_is_refused_in_a_sentence() {
    assert_eq!(message("lucier"), "there is no method \"lucier\"; did you mean \"lucir\"?");
    assert!(message("lucir+replays").starts_with("lucir+replays: there is no part \"replays\"; use e0, e20"));
    for (name, part) in [
        ("wa+dfgr", "not to wa; leave them out"),
        ("lwf-e20", "lwf keeps no exemplars; leave e20 out"),
        ("wa-e20", "set recipe.exemplars"),
        ("lucir+dtid+replace", "use podnet with dtid"),
        ("lucir+e0+dfgr+unshared", "add dfgr and dtid"),
        ("lucir+dfgr+dtid+unshared", "use e0"),
        ("lucir+e0+dfgr+dtid+unshared+stages", "leave unshared or --head out"),
        ("frozen", "add discriminant, stages, views, ridge, sdc, ldc, adc, fecam, fecamshared or fetril"),
        ("lwf+apr", "add discriminant, stages or views"),
        ("lwf+apr+ridge", "add discriminant, stages or views"),
        ("lwf+apr+dfgr+stages", "leave one out"),
        ("lwf+dfgr+apr+stages", "leave one out"),
        ("wa+apr", "not to wa; leave them out"),
        ("bic+statistics", "leave --head out"),
        ("lwf+fetril", "use frozen in place of lwf"),
        ("frozen-fecam-fetril", "leave one out"),
        ("lucir+dtid+dtidkl", "leave one out"),
        ("lucir+stages+ridge", "leave one out"),
    ] {
        assert!(message(name).contains(part), "{}", message(name));
    }
    let twice = MethodName::with_options("lucir-e0", Some(20), None).unwrap_err().to_string();
    assert!(twice.contains("leave one of them out"), "{twice}");
}

#[test]
fn every_listed_combination_is_a_name() {
    for base in methods::ALL {
        let combinations = base.presets.iter().flat_map(|it| match it.listed {
            Listed::AllAnd(more) | Listed::Only(more) => more,
            Listed::Nothing | Listed::All | Listed::WithoutExemplars => &[],
        });
        for parts in base.combinations.iter().chain(combinations) {
            let name = format!("{}-{parts}", base.word);
            let name = name.trim_end_matches('-');
            assert_eq!(
                name.parse::<MethodName>().unwrap_or_else(|error| panic!("{error}")).to_string(),
                name
            );
        }
    }
}
