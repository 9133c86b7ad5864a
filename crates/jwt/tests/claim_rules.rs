//! What a signed token must say.

use proptest::prelude::*;
use rhtmx_sync_jwt::{
    Algorithm, LEEWAY_MS_MAX, ROLE_BYTES_MAX, Rules, TokenError, USER_ID_BYTES_MAX, VerifiedToken,
    verify,
};
use serde_json::{Value, json};

#[allow(dead_code, reason = "each suite uses some of it")]
mod issuer;

use issuer::{NOW, SECRET, claims, keys_for, rules};

/// Verifies a token with these claims, as a text, so that they may be no JSON at all.
fn verified_text(claims: &str, rules: &Rules, now_ms: u64) -> Result<VerifiedToken, TokenError> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let secret = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &secret, Algorithm::HS256)
        .expect("a signature");
    verify(
        &format!("{signed}.{signature}"),
        &keys_for(Algorithm::HS256),
        rules,
        now_ms,
    )
}

fn verified(claims: &Value, rules: &Rules) -> Result<VerifiedToken, TokenError> {
    verified_text(&claims.to_string(), rules, NOW * 1000)
}

fn with(member: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[member] = value;
    claims
}

fn without(member: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().expect("an object").remove(member);
    claims
}

#[test]
fn a_token_without_an_end_is_refused() {
    assert_eq!(verified(&without("exp"), &rules()), Err(TokenError::Claims));
}

/// A time of a wrong type must not pass for an absent one.
/// CVE-2026-25537 and CVE-2026-54238 were that.
#[test]
fn times_are_numbers_in_range() {
    for name in ["exp", "nbf", "iat"] {
        for value in [
            json!(null),
            json!("1795741200"),
            json!([NOW + 60]),
            json!({}),
            json!(true),
            json!(-1),
            json!(-0.5),
            json!(9_223_372_036_854_775_808_u64),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(1e300),
            json!((NOW + 60) * 1000),
        ] {
            let refused = verified(&with(name, value.clone()), &rules());
            assert_eq!(refused, Err(TokenError::Claims), "{name}: {value}");
        }
        let text = without(name)
            .to_string()
            .replacen('{', &format!("{{\"{name}\":1e400,"), 1);
        assert_eq!(
            verified_text(&text, &rules(), NOW * 1000),
            Err(TokenError::Malformed),
            "{name}"
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "exact")]
    let fraction = with("exp", json!(NOW as f64 + 0.5));
    let verified = verified(&fraction, &rules()).expect("half a second is left");
    assert_eq!(verified.expires_at_ms, NOW * 1000 + 500);
}

#[test]
fn leeway_counts_at_both_ends_and_is_capped() {
    for (leeway_ms, counts) in [
        (0, 0),
        (30_000, 30_000),
        (LEEWAY_MS_MAX, LEEWAY_MS_MAX),
        (u64::MAX, LEEWAY_MS_MAX),
    ] {
        let rules = Rules {
            leeway_ms,
            ..rules()
        };
        let claims =
            json!({ "sub": "ann", "exp": NOW, "nbf": NOW - 600, "iat": NOW - 600 }).to_string();
        let at = |now_ms: u64| {
            verified_text(&claims, &rules, now_ms).map(|verified| verified.expires_at_ms)
        };
        assert_eq!(
            at(NOW * 1000 + counts - u64::from(counts > 0)).is_ok(),
            counts > 0
        );
        assert_eq!(at(NOW * 1000 + counts), Err(TokenError::Expired));
        // The leeway does not prolong what the token says.
        assert_eq!(at(NOW * 1000 - 1), Ok(NOW * 1000));
        let start = (NOW - 600) * 1000;
        assert!(at(start - counts).is_ok());
        assert_eq!(at(start - counts - 1), Err(TokenError::NotYetValid));
    }
}

#[test]
fn tokens_from_the_future_are_refused() {
    for name in ["nbf", "iat"] {
        assert_eq!(
            verified(&with(name, json!(NOW + 1)), &rules()),
            Err(TokenError::NotYetValid)
        );
        assert!(verified(&with(name, json!(NOW)), &rules()).is_ok());
    }
}

#[test]
fn the_issuer_is_one_of_the_configured() {
    let ours = Rules {
        issuers: vec!["https://id.example/a".to_owned(), "b".to_owned()],
        ..rules()
    };
    for issuer in ["https://id.example/a", "b"] {
        assert!(verified(&with("iss", json!(issuer)), &ours).is_ok());
    }
    for issuer in [
        "https://id.example/a/",
        "https://ID.example/a",
        "https://id.example/",
        "",
        "B",
    ] {
        assert_eq!(
            verified(&with("iss", json!(issuer)), &ours),
            Err(TokenError::Issuer),
            "{issuer}"
        );
    }
    assert_eq!(verified(&claims(), &ours), Err(TokenError::Issuer));
    for issuer in [json!(["b"]), json!(null), json!(1)] {
        assert_eq!(
            verified(&with("iss", issuer), &ours),
            Err(TokenError::Claims)
        );
    }
}

/// CVE-2026-30863: the token of another application.
#[test]
fn the_audience_is_one_of_the_configured() {
    let ours = Rules {
        audiences: vec!["app".to_owned(), "api".to_owned()],
        ..rules()
    };
    for audience in [json!("app"), json!(["other", "api"])] {
        assert!(verified(&with("aud", audience), &ours).is_ok());
    }
    for audience in [
        json!("other"),
        json!([]),
        json!(["other"]),
        json!(""),
        json!("App"),
        json!("app,api"),
    ] {
        assert_eq!(
            verified(&with("aud", audience.clone()), &ours),
            Err(TokenError::Audience),
            "{audience}"
        );
    }
    assert_eq!(verified(&claims(), &ours), Err(TokenError::Audience));
    for audience in [
        json!(null),
        json!(1),
        json!(["app", 1]),
        json!({ "app": true }),
    ] {
        for rules in [&ours, &rules()] {
            assert_eq!(
                verified(&with("aud", audience.clone()), rules),
                Err(TokenError::Claims),
                "{audience}"
            );
        }
    }
}

#[test]
fn the_subject_is_a_text_that_can_be_a_user() {
    for subject in [
        json!(null),
        json!(1),
        json!(["ann"]),
        json!(""),
        json!("  "),
        json!("a\nb"),
        json!("a".repeat(USER_ID_BYTES_MAX + 1)),
        json!("a".repeat(10_000)),
    ] {
        let refused = verified(&with("sub", subject.clone()), &rules()).expect_err("no user");
        assert_eq!(refused, TokenError::Subject, "{subject}");
    }
    assert_eq!(
        verified(&without("sub"), &rules()),
        Err(TokenError::Subject)
    );
    assert_eq!(
        verified(&with("sub", json!("a\0")), &rules()),
        Err(TokenError::Malformed)
    );
    for subject in [
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "o'brien\"; --",
        "a::b",
        "ä€😀",
        &"a".repeat(USER_ID_BYTES_MAX),
    ] {
        let verified = verified(&with("sub", json!(subject)), &rules()).expect("a user");
        assert_eq!(verified.user_id, subject);
    }
    let shouted = with("sub", json!("{67E55044-10B1-426F-9247-BB680E5FE0C8}"));
    let verified = verified(&shouted, &rules()).expect("a user");
    assert_eq!(verified.user_id, "67e55044-10b1-426f-9247-bb680e5fe0c8");
    assert_eq!(verified.claims["sub"], shouted["sub"]);
}

#[test]
fn a_role_is_ordinary_or_configured() {
    for role in ["authenticated", "anon", "editor of things"] {
        let verified = verified(&with("role", json!(role)), &rules()).expect("a role");
        assert_eq!(verified.role.as_deref(), Some(role));
    }
    assert_eq!(verified(&claims(), &rules()).expect("no role").role, None);
    for role in [
        json!("service_role"),
        json!("postgres"),
        json!("supabase_admin"),
        json!("none"),
        json!(""),
        json!(" "),
        json!("a\tb"),
        json!("r".repeat(ROLE_BYTES_MAX + 1)),
        json!(7),
        json!(["authenticated"]),
    ] {
        assert_eq!(
            verified(&with("role", role.clone()), &rules()),
            Err(TokenError::Role),
            "{role}"
        );
    }
    let named = Rules {
        roles: vec!["service_role".to_owned()],
        ..rules()
    };
    assert!(verified(&with("role", json!("service_role")), &named).is_ok());
    assert_eq!(
        verified(&with("role", json!("authenticated")), &named),
        Err(TokenError::Role)
    );
}

#[test]
fn tokens_that_are_not_for_access_are_refused() {
    for kind in ["Refresh", "Offline", "ID", "Logout"] {
        assert_eq!(
            verified(&with("typ", json!(kind)), &rules()),
            Err(TokenError::Unsupported)
        );
    }
    assert!(verified(&with("typ", json!("Bearer")), &rules()).is_ok());
}

/// As Supabase signs them for a user.
#[test]
fn a_token_of_supabase_works_as_it_is() {
    let token = json!({
        "iss": "https://project.supabase.co/auth/v1", "sub": "67e55044-10b1-426f-9247-bb680e5fe0c8",
        "aud": "authenticated", "exp": NOW + 3600, "iat": NOW, "email": "ann@example.com", "phone": "",
        "app_metadata": { "provider": "email", "providers": ["email"], "team": "red" },
        "user_metadata": {}, "role": "authenticated", "aal": "aal1",
        "amr": [{ "method": "password", "timestamp": NOW }],
        "session_id": "d2a4a2a4-7d3e-4a5a-9a3d-6d6a1d4b8f00", "is_anonymous": false,
    });
    let rules = Rules {
        issuers: vec!["https://project.supabase.co/auth/v1".to_owned()],
        audiences: vec!["authenticated".to_owned()],
        ..rules()
    };
    let verified = verified(&token, &rules).expect("a user of Supabase");
    assert_eq!(verified.user_id, "67e55044-10b1-426f-9247-bb680e5fe0c8");
    assert_eq!(verified.role.as_deref(), Some("authenticated"));
    assert_eq!(verified.claims["app_metadata"]["team"], "red");
    assert_eq!(json!(verified.claims), token);
}

#[test]
fn duplicate_claims_and_deep_ones_are_refused() {
    let twice = claims().to_string().replacen('{', r#"{"sub":"ben","#, 1);
    assert_eq!(
        verified_text(&twice, &rules(), NOW * 1000),
        Err(TokenError::Malformed)
    );
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let deep = claims()
        .to_string()
        .replacen('{', &format!(r#"{{"deep":{deep},"#), 1);
    assert_eq!(
        verified_text(&deep, &rules(), NOW * 1000),
        Err(TokenError::Malformed)
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        (NOW - 100..NOW + 100).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".{0,4}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever the claims are: what is accepted has a user, an end ahead, and exactly the claims of the token.
    #[test]
    fn what_is_accepted_fulfils_the_rules(
        members in proptest::collection::btree_map(
            prop_oneof![Just("sub"), Just("exp"), Just("nbf"), Just("iat"), Just("aud"), Just("iss"), Just("role"), Just("x")],
            any_json(),
            0..8,
        ),
        keep in any::<bool>(),
    ) {
        let mut claims = if keep { claims() } else { json!({}) };
        for (name, value) in members {
            claims[name] = value;
        }
        if let Ok(verified) = verified(&claims, &rules()) {
            prop_assert!(!verified.user_id.is_empty());
            prop_assert!(verified.expires_at_ms > NOW * 1000);
            prop_assert!(claims["exp"].is_number());
            for start in ["nbf", "iat"] {
                let start = claims.get(start);
                #[expect(clippy::cast_precision_loss, reason = "exact")]
                let has_begun = start.is_none_or(|start| start.as_f64().is_some_and(|start| start <= NOW as f64));
                prop_assert!(has_begun);
            }
            prop_assert_eq!(json!(verified.claims), claims);
        }
    }
}
