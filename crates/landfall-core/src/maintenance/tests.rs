use super::*;

fn mk_window(start: &str, zone: &str, hours: u8) -> MaintenanceWindow {
    MaintenanceWindow {
        start: start.parse().unwrap(),
        zone: zone.parse().unwrap(),
        hours,
    }
}

/// Returns the next three openings after a time, as local times.
fn openings(window: &MaintenanceWindow, from: &str) -> Vec<String> {
    let first: Timestamp = from.parse().unwrap();
    let next = |now: &Timestamp| window.next_opening(*now);
    std::iter::successors(next(&first), next)
        .take(3)
        .map(|begin| begin.to_zoned(window.zone.zone.clone()).datetime().to_string())
        .collect()
}

#[test]
fn expressions_are_those_of_crontab() {
    for (cron, zone, expected) in [
        (
            "0 2 * * *",
            "UTC",
            ["2026-11-30T02:00:00", "2026-12-01T02:00:00", "2026-12-02T02:00:00"],
        ),
        (
            "30 22 * * Sat,7",
            "UTC",
            ["2026-11-29T22:30:00", "2026-12-05T22:30:00", "2026-12-06T22:30:00"],
        ),
        (
            "*/20 1-2 1 jan *",
            "UTC",
            ["2027-01-01T01:00:00", "2027-01-01T01:20:00", "2027-01-01T01:40:00"],
        ),
        (
            "5/25 0 * * *",
            "UTC",
            ["2026-11-30T00:05:00", "2026-11-30T00:30:00", "2026-11-30T00:55:00"],
        ),
        // Two restricted days: one suffices. A field that begins with `*` does not restrict.
        (
            "0 0 13 * Fri",
            "UTC",
            ["2026-12-04T00:00:00", "2026-12-11T00:00:00", "2026-12-13T00:00:00"],
        ),
        (
            "0 0 */10 * Fri",
            "UTC",
            ["2026-12-11T00:00:00", "2027-01-01T00:00:00", "2027-05-21T00:00:00"],
        ),
        (
            "0 0 29 2 *",
            "UTC",
            ["2028-02-29T00:00:00", "2032-02-29T00:00:00", "2036-02-29T00:00:00"],
        ),
        // 02:30 does not exist on the night to summer time: 03:30 is an hour after 01:30.
        (
            "30 2 27-29 3 *",
            "Europe/Berlin",
            ["2027-03-27T02:30:00", "2027-03-28T03:30:00", "2027-03-29T02:30:00"],
        ),
        (
            "0 2 * * *",
            "asia/kolkata",
            ["2026-11-30T02:00:00", "2026-12-01T02:00:00", "2026-12-02T02:00:00"],
        ),
    ] {
        let window = mk_window(cron, zone, 1);
        assert_eq!(openings(&window, "2026-11-29T20:00:00Z"), expected, "{cron} {zone}");
    }
}

#[test]
fn expression_that_cannot_be_is_refused_with_its_field() {
    for (text, expected) in [
        (
            "",
            "a cron expression has 5 fields, and this one has 0: minute, hour, day, month, day of the week",
        ),
        (
            "@daily",
            "a cron expression has 5 fields, and this one has 1: minute, hour, day, month, day of the week",
        ),
        (
            "60 2 * * *",
            "`60` is not possible for the minute: 0 to 59, with `*`, `-`, `,` and `/`",
        ),
        (
            "0 24 * * *",
            "`24` is not possible for the hour: 0 to 23, with `*`, `-`, `,` and `/`",
        ),
        (
            "0 0 0 * *",
            "`0` is not possible for the day of the month: 1 to 31, with `*`, `-`, `,` and `/`",
        ),
        (
            "0 0 * 3-1 *",
            "`3-1` is not possible for the month: 1 to 12, with `*`, `-`, `,` and `/`",
        ),
        (
            "0 0 * * mo",
            "`mo` is not possible for the day of the week: 0 to 7, with `*`, `-`, `,` and `/`",
        ),
        (
            "*/0 * * * *",
            "`*/0` is not possible for the minute: 0 to 59, with `*`, `-`, `,` and `/`",
        ),
        (
            "+1 * * * *",
            "`+1` is not possible for the minute: 0 to 59, with `*`, `-`, `,` and `/`",
        ),
        (
            "1, * * * *",
            "`` is not possible for the minute: 0 to 59, with `*`, `-`, `,` and `/`",
        ),
        ("0 0 31 4,6 *", "there is no such day in any year"),
    ] {
        assert_eq!(text.parse::<Cron>().unwrap_err().to_string(), expected, "{text}");
    }
}

#[test]
fn window_is_open_for_its_hours_also_over_midnight() {
    let night = mk_window("0 23 * * Fri", "Europe/Berlin", 3);
    // 23:00 in Berlin is 22:00 UTC in winter, and 21:00 UTC in summer.
    for (now, is_open) in [
        ("2026-12-04T21:59:59Z", false),
        ("2026-12-04T22:00:00Z", true),
        ("2026-12-05T00:59:59Z", true),
        ("2026-12-05T01:00:00Z", false),
        ("2026-12-05T22:30:00Z", false),
        ("2026-07-03T21:30:00Z", true),
    ] {
        let state = window_state(std::slice::from_ref(&night), now.parse().unwrap());
        assert_eq!(state == WindowState::Open, is_open, "{now}: {state:?}");
    }
    let always = window_state(&[], "1970-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(always, WindowState::Open);
    let two = [night, mk_window("0 4 * * *", "UTC", 24)];
    let state = window_state(&two, "2026-12-04T21:00:00Z".parse().unwrap());
    assert_eq!(state, WindowState::Open, "24 hours are always");
}

#[test]
fn closed_window_tells_when_it_opens() {
    let windows = [mk_window("0 2 1 * *", "UTC", 2), mk_window("0 2 * * Sun", "UTC", 2)];
    let state = window_state(&windows, "2026-11-30T12:00:00Z".parse().unwrap());
    let opens = Some("2026-12-01T02:00:00Z".parse().unwrap());
    assert_eq!(state, WindowState::Closed { opens });
}

#[test]
fn time_zone_that_is_not_known_names_the_nearest() {
    let error = "Europe/Berln".parse::<TimeZoneName>().unwrap_err();
    assert_eq!(error.to_string(), "there is no time zone `Europe/Berln`");
    assert_eq!(error.nearest.as_deref(), Some("Europe/Berlin"));
}
