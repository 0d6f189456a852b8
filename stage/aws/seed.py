#!/usr/bin/env python3
"""Makes the AWS account of a stage: what Terraform makes in a real one, and no more.

Reads the endpoint from AWS_ENDPOINT_URL, is harmless when run twice, and prints one JSON object with the
identifiers that the stage's configuration needs. Isolation between roles is not judged here: moto has no IAM.
"""
import argparse
import json
import sys
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

ROLE = "PowerPoleBastion"
NETWORK = "10.77.0.0/16"
SUBNET = "10.77.64.0/18"


def client(service):
    return boto3.client(
        service,
        region_name="us-east-1",
        aws_access_key_id="AKIASTAGEPLATFORM000",
        aws_secret_access_key="stage",
        config=Config(retries={"max_attempts": 5, "mode": "standard"}),
    )


def unless_there(codes, call):
    """Calls; answers None when the thing is there already."""
    try:
        return call()
    except ClientError as error:
        if error.response["Error"]["Code"] in codes:
            return None
        raise


def network(ec2):
    found = ec2.describe_vpcs(Filters=[{"Name": "cidr", "Values": [NETWORK]}])["Vpcs"]
    vpc = found[0]["VpcId"] if found else ec2.create_vpc(CidrBlock=NETWORK)["Vpc"]["VpcId"]
    found = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    if not found:
        found = [ec2.create_subnet(VpcId=vpc, CidrBlock=SUBNET, AvailabilityZone="us-east-1a")["Subnet"]]
    name = "powerpole-bastion"
    groups = ec2.describe_security_groups(
        Filters=[{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [vpc]}]
    )["SecurityGroups"]
    group = (
        groups[0]["GroupId"]
        if groups
        else ec2.create_security_group(GroupName=name, Description="bastions: nothing inbound", VpcId=vpc)["GroupId"]
    )
    return found[0]["SubnetId"], group


def role(iam):
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    there = {"EntityAlreadyExists", "LimitExceeded"}
    unless_there(there, lambda: iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trust)))
    unless_there(there, lambda: iam.create_instance_profile(InstanceProfileName=ROLE))
    unless_there(there, lambda: iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE))
    return iam.get_role(RoleName=ROLE)["Role"]["RoleId"]


def image(ec2, ssm, parameter):
    name = "powerpole-bastion-stage"
    found = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": [name]}])["Images"]
    ami = (
        found[0]["ImageId"]
        if found
        else ec2.register_image(
            Name=name, Architecture="x86_64", RootDeviceName="/dev/sda1", VirtualizationType="hvm"
        )["ImageId"]
    )
    ssm.put_parameter(Name=parameter, Value=ami, Type="String", Overwrite=True)
    return ami


def ledger(dynamodb, table):
    def make():
        return dynamodb.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "request", "AttributeType": "S"},
                {"AttributeName": "open", "AttributeType": "S"},
                {"AttributeName": "unrolled", "AttributeType": "S"},
            ],
            KeySchema=[{"AttributeName": "request", "KeyType": "HASH"}],
            GlobalSecondaryIndexes=[
                {
                    "IndexName": name,
                    "KeySchema": [
                        {"AttributeName": name, "KeyType": "HASH"},
                        {"AttributeName": "request", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
                for name in ("open", "unrolled")
            ],
        )

    unless_there({"ResourceInUseException"}, make)


def bucket(s3, name):
    unless_there(
        {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"},
        lambda: s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True),
    )
    s3.put_object_lock_configuration(
        Bucket=name,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 400}},
        },
    )


def secret(secrets, name, file):
    with open(file, encoding="utf-8") as text:
        value = text.read().strip()
    made = unless_there(
        {"ResourceExistsException"}, lambda: secrets.create_secret(Name=name, SecretString=value)
    )
    if made is None:
        secrets.put_secret_value(SecretId=name, SecretString=value)


def ticket_key(kms, alias, file):
    """A KMS key with the ticket key of a file (64 hexadecimal digits) as its material, as docs/control.md says."""
    aliases = [found["AliasName"] for page in kms.get_paginator("list_aliases").paginate() for found in page["Aliases"]]
    if alias in aliases:
        return
    with open(file, encoding="utf-8") as text:
        material = bytes.fromhex(text.read().strip())
    key = kms.create_key(Origin="EXTERNAL", KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["KeyId"]
    offer = kms.get_parameters_for_import(
        KeyId=key, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_3072"
    )
    digest = hashes.SHA256()
    wrapped = serialization.load_der_public_key(offer["PublicKey"]).encrypt(
        material, padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=None)
    )
    kms.import_key_material(
        KeyId=key,
        ImportToken=offer["ImportToken"],
        EncryptedKeyMaterial=wrapped,
        ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE",
    )
    kms.create_alias(AliasName=alias, TargetKeyId=key)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-parameter", default="/powerpole/stage/image")
    parser.add_argument("--table", default="powerpole-ledger")
    parser.add_argument("--log-group", default="/powerpole/stage/evidence")
    parser.add_argument("--bucket", default="powerpole-anchors")
    parser.add_argument(
        "--grantor", action="append", default=[], metavar="NAME=FILE",
        help="a grantor's secret and the file that holds its JSON",
    )
    parser.add_argument(
        "--ticket-key", action="append", default=[], metavar="ALIAS=FILE",
        help="alias of a KMS key, and the file that holds its material in hexadecimal digits",
    )
    arguments = parser.parse_args()
    ec2, logs = client("ec2"), client("logs")
    begin = time.monotonic()
    subnet, group = network(ec2)
    role_id = role(client("iam"))
    ami = image(ec2, client("ssm"), arguments.image_parameter)
    ledger(client("dynamodb"), arguments.table)
    unless_there(
        {"ResourceAlreadyExistsException"}, lambda: logs.create_log_group(logGroupName=arguments.log_group)
    )
    bucket(client("s3"), arguments.bucket)
    for grantor in arguments.grantor:
        name, _, file = grantor.partition("=")
        secret(client("secretsmanager"), name, file)
    for key in arguments.ticket_key:
        alias, _, file = key.partition("=")
        ticket_key(client("kms"), alias, file)
    print(json.dumps({"ami": ami, "subnet": subnet, "security_group": group, "role_id": role_id}))
    print(f"seed: AWS account made in {time.monotonic() - begin:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
