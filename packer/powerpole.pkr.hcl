# The bastion's image on Amazon Linux 2023: the package list of ami/packages/, then ami/bake.sh, the same script that makes
# the local stage's image. `packer/validate.sh` checks this file, also with a Packer that is older than parts of it.

# since 1.7: begin
packer {
  required_version = ">= 1.7.0"
  required_plugins {
    amazon = {
      version = ">= 1.3.0"
      source  = "github.com/hashicorp/amazon"
    }
  }
}
# since 1.7: end

variable "region" {
  type        = string
  description = "Where the image is made."
}

variable "agent" {
  type        = string
  description = "Path of the powerpole-agent binary for the architecture below."
}

variable "shim" {
  type        = string
  description = "Path of the powerpole-shim binary, of the same build."
}

variable "architecture" {
  type        = string
  default     = "x86_64"
  description = "x86_64 or arm64."
}

variable "instance_type" {
  type        = string
  default     = "t3.small"
  description = "What the image is made on; t4g.small for arm64."
}

variable "subnet_id" {
  type        = string
  description = "A subnet from which the package mirrors can be reached."
}

variable "kms_key_id" {
  type        = string
  default     = "alias/aws/ebs"
  description = "The key that encrypts the image's volume."
}

variable "release" {
  type        = string
  default     = "latest"
  description = "The release of Amazon Linux 2023 to bake; `latest` or a pinned one such as 2023.6.20250115."
}

variable "revision" {
  type        = string
  description = "Commit of this repository, kept as a tag."
}

locals {
  stamp = formatdate("YYYYMMDDhhmmss", timestamp())
  tags = {
    Name                 = "powerpole-bastion"
    "powerpole:image"    = "bastion"
    "powerpole:revision" = var.revision
    "powerpole:release"  = var.release
  }
}

source "amazon-ebs" "bastion" {
  region        = var.region
  subnet_id     = var.subnet_id
  instance_type = var.instance_type
  ami_name      = "powerpole-bastion-${local.stamp}"

  source_ami_filter {
    filters = {
      name                = "al2023-ami-2023.*-kernel-*-${var.architecture}"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    owners      = ["amazon"]
    most_recent = true
  }

  encrypt_boot = true
  kms_key_id   = var.kms_key_id

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_size           = 8
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    encrypted             = true
    delete_on_termination = true
  }

  # since 1.7: begin
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  # Instances of this image answer IMDSv2 only, whatever starts them.
  imds_support = "v2.0"
  # since 1.7: end

  ssh_username              = "ec2-user"
  ssh_clear_authorized_keys = true
  tags                      = local.tags
  snapshot_tags             = local.tags
  run_tags                  = local.tags
}

build {
  sources = ["source.amazon-ebs.bastion"]

  provisioner "shell" {
    inline = ["mkdir -p /tmp/payload/bin"]
  }
  provisioner "file" {
    source      = var.agent
    destination = "/tmp/payload/bin/powerpole-agent"
  }
  provisioner "file" {
    source      = var.shim
    destination = "/tmp/payload/bin/powerpole-shim"
  }
  provisioner "file" {
    sources     = ["${path.root}/../ami/files", "${path.root}/../systemd", "${path.root}/../ami/bake.sh", "${path.root}/../ami/test.sh"]
    destination = "/tmp/payload/"
  }
  provisioner "file" {
    source      = "${path.root}/../ami/packages/amazon-linux-2023.txt"
    destination = "/tmp/payload/packages.txt"
  }
  provisioner "shell" {
    inline = [
      "set -eu",
      "sudo dnf --assumeyes --releasever=${var.release} upgrade",
      "sudo dnf --assumeyes --releasever=${var.release} install $(grep -v '^#' /tmp/payload/packages.txt | tr '\\n' ' ')",
    ]
  }
  # The last step: afterwards nobody can become root here, and ec2-user has neither shell nor key. Bake and tests are one
  # command for that reason; a failed test makes no image.
  provisioner "shell" {
    skip_clean = true
    inline = [
      "sudo sh -c 'mv /tmp/payload /run/payload && bash /run/payload/bake.sh /run/payload && bash /run/payload/test.sh / && rm -rf /run/payload'",
    ]
  }

  post-processor "manifest" {
    output     = "powerpole-image.json"
    strip_path = true
  }
}
