"""A program that uses boto3. It prints what it saw.

python with_boto3.py ENDPOINT
"""

import hashlib
import io
import json
import sys

import boto3
import urllib3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = sys.argv[1]
OPTIONS = {
    "endpoint_url": ENDPOINT,
    "region_name": "us-east-1",
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "config": Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, proxies={}),
}
saw = {}
urllib3.PoolManager().request("POST", f"{ENDPOINT}/moto-api/reset")
session = boto3.session.Session()
s3 = session.client("s3", **OPTIONS)


def digest(data):
    return [len(data), hashlib.sha256(data).hexdigest()]


def refused(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return [error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]]


s3.create_bucket(Bucket="bucket")
saw["put"] = s3.put_object(Bucket="bucket", Key="small", Body=b"content", Metadata={"name": "value"})["ETag"]
got = s3.get_object(Bucket="bucket", Key="small")
saw["got"] = [got["Body"].read().decode(), got["Metadata"], got["ContentLength"], got["ETag"]]
saw["head"] = s3.head_object(Bucket="bucket", Key="small")["ContentLength"]
saw["range"] = s3.get_object(Bucket="bucket", Key="small", Range="bytes=2-4")["Body"].read().decode()
saw["missing"] = refused(s3.get_object, Bucket="bucket", Key="nothing")
saw["missing head"] = refused(s3.head_object, Bucket="bucket", Key="nothing")
saw["no bucket"] = refused(s3.list_objects_v2, Bucket="elsewhere")
saw["condition"] = refused(s3.get_object, Bucket="bucket", Key="small", IfNoneMatch=saw["put"])

large = bytes(range(256)) * (48 << 10)  # 12 MiB
several = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=3)
s3.upload_fileobj(io.BytesIO(large), "bucket", "large", Config=several)
back = io.BytesIO()
s3.download_fileobj("bucket", "large", back, Config=several)
saw["large"] = [digest(back.getvalue()), back.getvalue() == large]
body = s3.get_object(Bucket="bucket", Key="large")["Body"]
saw["in pieces"] = [len(body.read(1000)), sum(len(piece) for piece in body.iter_chunks(1 << 16))]
with s3.get_object(Bucket="bucket", Key="large")["Body"] as body:
    saw["not read"] = len(body.read(10))
for number in range(25):
    s3.put_object(Bucket="bucket", Key=f"many/{number:02}", Body=b"%d" % number)
pages = s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix="many/", PaginationConfig={"PageSize": 10})
saw["listed"] = [[item["Key"] for item in page["Contents"]] for page in pages]
deleted = s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": f"many/{n:02}"} for n in range(20)]})
saw["deleted"] = len(deleted["Deleted"])
link = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "small"})
saw["link"] = urllib3.PoolManager().request("GET", link).data.decode()

sqs = session.client("sqs", **OPTIONS)
queue = sqs.create_queue(QueueName="queue")["QueueUrl"]
sqs.send_message(QueueUrl=queue, MessageBody="\N{SNOWMAN}")
saw["message"] = sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"]
saw["caller"] = session.client("sts", **OPTIONS).get_caller_identity()["Account"]

json.dump(saw, sys.stdout, indent=1)
