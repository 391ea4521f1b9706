//! Groups of settings that are written by hand.

use super::*;

fn member<'a>(method: &str, seed: u64, finished: bool, settings: &'a Settings) -> Member<'a> {
    Member { method: method.to_owned(), seed, finished, settings }
}

#[test]
fn runs_that_differ_in_the_seed_alone_are_one_group() {
    let text = |seed: u64, rate: f64| {
        format!("seed = {seed}\npreset = \"p{seed}\"\n[a]\nrate = {rate}\nlist = [1, 2]\n[[b]]\nc = 1\n")
    };
    let of = |seed, rate| settings(&text(seed, rate), Orders::Apart).unwrap();
    let (one, two) = (of(1, 0.1), of(2, 0.1));
    assert_eq!(one, two);
    assert_eq!(one["a.list"], "[1, 2]");
    assert_eq!(one["b.0.c"], "1");
    let other = of(1, 0.2);
    let groups = group(&[
        member("lwf", 1, true, &one),
        member("lwf", 1, true, &other),
        member("lwf", 2, true, &two),
        member("lwf", 2, true, &two),
        member("lwf", 3, false, &one),
    ]);
    let found: Vec<_> = groups.iter().map(|it| (it.label.as_str(), &it.runs[..], &it.counted[..])).collect();
    assert_eq!(
        found,
        [("lwf (a.rate = 0.1)", &[0, 2, 3, 4][..], &[0, 2][..]), ("lwf (a.rate = 0.2)", &[1][..], &[1][..])]
    );
}

#[test]
fn an_order_that_comes_with_its_seed_makes_no_other_method() {
    let of = |order: &str, orders| settings(&format!("x = 1\nclass-order = {order}\n"), orders).unwrap();
    let (named, drawn) = ("\"abd_0\"", "{ seed = 3 }");
    assert_ne!(of(named, Orders::Apart), of(drawn, Orders::Apart));
    let (one, two) = (of(named, Orders::WithSeeds), of(drawn, Orders::WithSeeds));
    let groups = group(&[member("lwf", 1, true, &one), member("lwf", 2, true, &two)]);
    assert_eq!((groups.len(), &groups[0].label[..], &groups[0].counted[..]), (1, "lwf", &[0, 1][..]));
}

#[test]
fn groups_that_differ_much_are_numbered_and_single_ones_keep_their_name() {
    let text = |value: u64| format!("x = {value}\ny = {value}\nz = {value}\n");
    let of = |value| settings(&text(value), Orders::Apart).unwrap();
    let (one, two) = (of(1), of(2));
    let groups = group(&[
        member("lwf", 1, true, &one),
        member("lwf", 1, true, &two),
        member("joint", 1, true, &of(3)),
    ]);
    let labels: Vec<&str> = groups.iter().map(|it| it.label.as_str()).collect();
    assert_eq!(labels, ["lwf (settings 1)", "lwf (settings 2)", "joint"]);
}

#[test]
fn rows_of_different_tasks_say_which() {
    let of = |text: &str| settings(text, Orders::Apart).unwrap();
    let six = of("increments = [6, 2, 2]\nclasses = 10\n[recipe]\nhead = \"linear\"\n");
    let two = of("increments = [2, 4, 4]\nclasses = 10\n[recipe]\nhead = \"linear\"\n");
    let other = of("increments = [2, 4, 4]\nclasses = 10\n[recipe]\nhead = \"cosine\"\n");
    let labels = |members: &[Member<'_>]| group(members).into_iter().map(|it| it.label).collect::<Vec<_>>();
    let found = labels(&[
        member("lwf", 1, true, &six),
        member("joint", 1, true, &other),
        member("lwf", 1, true, &two),
    ]);
    assert_eq!(
        found,
        ["lwf (increments = [6, 2, 2])", "joint (increments = [2, 4, 4])", "lwf (increments = [2, 4, 4])"]
    );
    // In one task nothing is said.
    assert_eq!(labels(&[member("lwf", 1, true, &two), member("joint", 1, true, &other)]), ["lwf", "joint"]);
    // Many keys of the task: those that name it.
    let photos = of("dataset = \"photos\"\nclasses = 4\nincrements = [2, 2]\n[recipe]\nhead = \"linear\"\n");
    assert_eq!(
        labels(&[member("lwf", 1, true, &six), member("joint", 1, true, &photos)]),
        [
            "lwf (dataset = unset, increments = [6, 2, 2])",
            "joint (dataset = \"photos\", increments = [2, 2])"
        ]
    );
}
