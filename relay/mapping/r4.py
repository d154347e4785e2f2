"""The resource types of FHIR R4 (4.0.1), by what their element `identifier` is. Source: the R4 resource list."""

from __future__ import annotations

MANY_IDENTIFIERS = frozenset(
    ["Account", "ActivityDefinition", "AllergyIntolerance", "Appointment", "AppointmentResponse", "Basic", "BiologicallyDerivedProduct", "BodyStructure", "CarePlan", "CareTeam", "CatalogEntry", "ChargeItem", "ChargeItemDefinition", "Claim", "ClaimResponse", "ClinicalImpression", "CodeSystem", "Communication", "CommunicationRequest", "Condition", "Consent", "Contract", "Coverage", "CoverageEligibilityRequest", "CoverageEligibilityResponse", "DetectedIssue", "Device", "DeviceDefinition", "DeviceMetric", "DeviceRequest", "DeviceUseStatement", "DiagnosticReport", "DocumentManifest", "DocumentReference", "EffectEvidenceSynthesis", "Encounter", "Endpoint", "EnrollmentRequest", "EnrollmentResponse", "EpisodeOfCare", "EventDefinition", "Evidence", "EvidenceVariable", "ExampleScenario", "ExplanationOfBenefit", "FamilyMemberHistory", "Flag", "Goal", "Group", "GuidanceResponse", "HealthcareService", "ImagingStudy", "Immunization", "ImmunizationEvaluation", "ImmunizationRecommendation", "InsurancePlan", "Invoice", "Library", "List", "Location", "Measure", "MeasureReport", "Media", "Medication", "MedicationAdministration", "MedicationDispense", "MedicationRequest", "MedicationStatement", "MedicinalProduct", "MedicinalProductAuthorization", "MedicinalProductPackaged", "MedicinalProductPharmaceutical", "MessageDefinition", "MolecularSequence", "NutritionOrder", "Observation", "ObservationDefinition", "Organization", "OrganizationAffiliation", "Patient", "PaymentNotice", "PaymentReconciliation", "Person", "PlanDefinition", "Practitioner", "PractitionerRole", "Procedure", "Questionnaire", "RelatedPerson", "RequestGroup", "ResearchDefinition", "ResearchElementDefinition", "ResearchStudy", "ResearchSubject", "RiskAssessment", "RiskEvidenceSynthesis", "Schedule", "ServiceRequest", "Slot", "Specimen", "StructureDefinition", "StructureMap", "Substance", "SupplyDelivery", "SupplyRequest", "Task", "ValueSet", "VisionPrescription"]
)
"""Types whose `identifier` is an array: only these have room for a Dynamics identifier beside the others."""

ONE_IDENTIFIER = frozenset(
    ["AdverseEvent", "Bundle", "Composition", "ConceptMap", "MedicinalProductIngredient", "QuestionnaireResponse", "SpecimenDefinition", "SubstanceSpecification", "TestReport", "TestScript"]
)
"""Types whose `identifier` is a single object."""

NO_IDENTIFIER = frozenset(
    ["AuditEvent", "Binary", "CapabilityStatement", "CompartmentDefinition", "GraphDefinition", "ImplementationGuide", "Linkage", "MedicationKnowledge", "MedicinalProductContraindication", "MedicinalProductIndication", "MedicinalProductInteraction", "MedicinalProductManufactured", "MedicinalProductUndesirableEffect", "MessageHeader", "NamingSystem", "OperationDefinition", "OperationOutcome", "Parameters", "Provenance", "SearchParameter", "Subscription", "SubstanceNucleicAcid", "SubstancePolymer", "SubstanceProtein", "SubstanceReferenceInformation", "SubstanceSourceMaterial", "TerminologyCapabilities", "VerificationResult"]
)
"""Types without the element."""

RESOURCE_TYPES = MANY_IDENTIFIERS | ONE_IDENTIFIER | NO_IDENTIFIER
