terraform {
  # 1.11 brought write-only arguments: a secret's value is in no state and no plan.
  required_version = ">= 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }
}

provider "google" {
  project = var.project_id
  region  = var.region

  # The budget's interface asks for a project that pays for the question.
  billing_project       = var.project_id
  user_project_override = true

  default_labels = { app = var.prefix }
}
