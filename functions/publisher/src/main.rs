//! The wiring of the publisher to AWS.

use std::sync::Arc;

use cloud::{
    aws::{Aws, Patience},
    bus::EventBridge,
    telemetry,
};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use publisher::{Publisher, StreamEvent, config::Config};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::tame_panics();
    let config = Config::from_env()?;
    let aws = Aws::from_env(Patience::Worker)?;
    let bus = EventBridge::new(aws.eventbridge(), config.bus);
    let publisher = &Publisher::new(bus, config.detail, Arc::new(cloud::now));
    run(service_fn(
        |event: LambdaEvent<StreamEvent>| async move { Ok::<_, Error>(publisher.publish(event.payload).await) },
    ))
    .await
}
