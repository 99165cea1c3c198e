//! Tests that take longer: `make test-cluster-full`.

use std::time::Instant;

use crate::node::Node;

#[test]
#[ignore = "runs a cluster: make test-cluster-full"]
fn a_stopped_node_is_missed_and_comes_back() {
    let node = Node(2);
    let begin = Instant::now();
    node.stop();
    node.wait_for_ready("Unknown");
    println!("a stopped node is missed after {:.0} s", begin.elapsed().as_secs_f32());
    let begin = Instant::now();
    node.start();
    node.wait_for_ready("True");
    println!("a started node is ready after {:.0} s", begin.elapsed().as_secs_f32());
    assert_eq!(node.run(&["hostname"]).stdout.trim(), node.name());
}
