//! Row level security: what is planned and asked, against what PostgreSQL shows the role.

mod corpus;
mod examined;
mod failing;
mod random;
mod reading;
mod truth;
mod writing;
