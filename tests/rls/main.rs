//! Row level security: what is planned and asked, against what PostgreSQL shows the role.

mod as_role;
mod corpus;
mod differential;
mod examined;
mod failing;
mod live;
mod pushing;
mod random;
mod reading;
mod together;
mod truth;
mod writing;
