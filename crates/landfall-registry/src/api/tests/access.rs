//! Logins, policies, metrics and limits.

use super::*;

fn basic(user: &str, password: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {encoded}")
}

#[tokio::test]
async fn only_users_get_in_and_reading_may_be_open_to_all() {
    let hash = bcrypt::hash("canary", 4).unwrap();
    let htpasswd = || Users::parse_htpasswd(&format!("# users\n\nother:{hash}\nedge:{hash}\n")).unwrap();
    let user = || Users::User {
        name: "edge".to_owned(),
        password: "canary".into(),
    };
    for login in [htpasswd(), user()] {
        for anonymous_pull in [false, true] {
            let policy = Policy {
                login: Some(login.clone()),
                anonymous_pull,
                read_only: false,
                ..Policy::default()
            };
            assert!(!format!("{policy:?}").contains("canary"));
            let fixture = mk_fixture_with(policy);
            let good = basic("edge", "canary");
            for (method, path, authorization, status) in [
                ("GET", "/v2/", None, 401),
                ("GET", "/v2/", Some(basic("edge", "wrong")), 401),
                ("GET", "/v2/", Some(basic("nobody", "canary")), 401),
                ("GET", "/v2/", Some("Basic !!!".to_owned()), 401),
                ("GET", "/v2/", Some("Bearer x".to_owned()), 401),
                ("GET", "/v2/", Some(good.clone()), 200),
                ("GET", "/v2/_catalog", None, if anonymous_pull { 200 } else { 401 }),
                (
                    "GET",
                    "/v2/_catalog",
                    Some(basic("", "")),
                    if anonymous_pull { 200 } else { 401 },
                ),
                ("GET", "/v2/_catalog", Some(basic("edge", "wrong")), 401),
                ("POST", "/v2/a/blobs/uploads/", Some(basic("", "")), 401),
                ("POST", "/v2/a/blobs/uploads/", None, 401),
                ("POST", "/v2/a/blobs/uploads/", Some(good.clone()), 202),
                ("POST", "/v2/a/blobs/uploads/", Some(good.clone()), 202),
            ] {
                let headers: Vec<(&str, &str)> = authorization
                    .iter()
                    .map(|value| ("authorization", value.as_str()))
                    .collect();
                let answer = fixture.send(method, path, &headers, Body::empty()).await;
                assert_eq!(answer.status, status, "{method} {path} {authorization:?}");
                if status == 401 {
                    assert_eq!(answer.code(), "UNAUTHORIZED");
                    assert_eq!(
                        answer.header("www-authenticate"),
                        "Basic realm=\"landfall\", charset=\"UTF-8\""
                    );
                }
            }
        }
    }
}

#[test]
fn an_htpasswd_line_that_cannot_be_used_is_named_and_not_shown() {
    for text in ["edge:$apr1$x$canary", "edge", "a:$2y$05$x\n:$2y$05$canary"] {
        let error = Users::parse_htpasswd(text).unwrap_err();
        assert_eq!(error.line, text.lines().count());
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}

#[tokio::test]
async fn a_read_only_registry_changes_nothing_and_other_methods_are_not_known() {
    let fixture = mk_fixture_with(Policy {
        read_only: true,
        ..Policy::default()
    });
    let answer = fixture.send("POST", "/v2/a/blobs/uploads/", &[], Body::empty()).await;
    assert_eq!((answer.status, answer.code()), (403, "DENIED".to_owned()));
    assert_eq!(fixture.get("/v2/_catalog").await.status, 200);
    let answer = mk_fixture().send("PATCH", "/v2/_catalog", &[], Body::empty()).await;
    assert_eq!((answer.status, answer.code()), (405, "UNSUPPORTED".to_owned()));
}

#[tokio::test]
async fn logins_are_replaced_while_the_registry_is_served_and_guesses_are_slowed_down() {
    let line = |password: &str| format!("edge:{}", bcrypt::hash(password, 4).unwrap());
    let users = Users::parse_htpasswd(&line("old")).unwrap();
    let fixture = mk_fixture_with(Policy {
        login: Some(users.clone()),
        ..Policy::default()
    });
    let ping = async |password: &str| {
        let authorization = basic("edge", password);
        let answer = fixture
            .send("GET", "/v2/", &[("authorization", &authorization)], Body::empty())
            .await;
        (answer.status, answer.header("retry-after").to_owned())
    };
    assert_eq!(ping("old").await.0, 200);
    users.replace(&line("new")).unwrap();
    users.replace("edge:plain").unwrap_err();
    assert_eq!((ping("old").await.0, ping("new").await.0), (401, 200));
    for guess in 0..19 {
        assert_eq!(ping(&format!("guess {guess}")).await.0, 401);
    }
    assert_eq!(ping("guess 0").await.0, 401, "the same once more costs nothing");
    let (status, wait) = ping("guess 20").await;
    assert!(
        status == 429 && (1..=60).contains(&wait.parse::<u64>().unwrap()),
        "{status} {wait}"
    );
    assert_eq!(ping("new").await.0, 200, "who is known goes on");
}

#[tokio::test]
async fn a_burst_of_guesses_is_no_way_around_the_limit_and_the_same_login_is_checked_once() {
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let users = Users::parse_htpasswd(&format!("ann:{}\nbob:{}", hash("canary"), hash("canary"))).unwrap();
    let fixture = mk_fixture_with(Policy {
        login: Some(users),
        ..Policy::default()
    });
    let ping = async |user: &str, password: String| {
        let authorization = basic(user, &password);
        let answer = fixture
            .send("GET", "/v2/", &[("authorization", &authorization)], Body::empty())
            .await;
        if answer.status == 429 {
            let wait = answer.header("retry-after").parse::<u64>().unwrap();
            assert!((1..=60).contains(&wait), "{wait}");
        }
        answer.status
    };
    let same = futures_util::future::join_all((0..100).map(|_| ping("ann", "canary".to_owned()))).await;
    assert!(same.iter().all(|status| *status == 200), "{same:?}");
    let guesses = futures_util::future::join_all((0..500).map(|number| ping("ann", format!("guess {number}")))).await;
    assert_eq!(guesses.iter().filter(|status| **status == 401).count(), 20);
    assert_eq!(guesses.iter().filter(|status| **status == 429).count(), 480);
    assert_eq!(ping("ann", "canary".to_owned()).await, 200, "who is known goes on");
    assert_eq!(
        ping("bob", "canary".to_owned()).await,
        200,
        "another user is not locked out"
    );
}

#[tokio::test]
async fn metrics_are_served_to_whoever_may_pull_and_where_they_are_asked_for() {
    let login = Some(Users::User {
        name: "edge".to_owned(),
        password: "canary".to_owned().into(),
    });
    assert_eq!(mk_fixture().get("/metrics").await.status, 404);
    let fixture = mk_fixture_with(Policy {
        login,
        metrics: true,
        ..Policy::default()
    });
    assert_eq!(fixture.get("/metrics").await.status, 401);
    let authorization = [("authorization", basic("edge", "canary"))];
    let headers: Vec<(&str, &str)> = authorization
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    assert_eq!(fixture.send("GET", "/v2/", &headers, Body::empty()).await.status, 200);
    let answer = fixture.send("GET", "/metrics", &headers, Body::empty()).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in [
        "landfall_registry_requests_total{method=\"GET\",content=\"ping\",status=\"200\"} 1",
        "landfall_registry_requests_under_way 1",
        "landfall_registry_refused_by_budget_total{budget=\"sessions\"} 0",
        "landfall_registry_refused_by_budget_total{budget=\"logins\"} 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn more_requests_than_are_allowed_at_once_are_asked_to_come_again() {
    let fixture = mk_fixture_with(Policy {
        requests_max: Some(0),
        ..Policy::default()
    });
    let answer = fixture.get("/v2/").await;
    assert_eq!((answer.status, answer.code()), (429, "TOOMANYREQUESTS".to_owned()));
    assert_eq!(answer.header("retry-after"), "1");
}
