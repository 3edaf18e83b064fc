drop table orchestration.deployment_steps;
drop table orchestration.deployments;
